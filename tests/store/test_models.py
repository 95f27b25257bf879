"""A MODEL argument finds its files, and what is wrong with it is reported; conversions
run once, and only when needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import BadModelFile, BadSettings, SetupError
from appliance.store.catalog import Catalog, CatalogEntry, load_catalog
from appliance.store.conversion import Conversion, ensure_converted
from appliance.store.event import StoreEvent
from appliance.store.gguf_header import read_header
from appliance.store.models import ModelStore, prepare_files
from appliance.store.servable import read_servable_header
from tests.store.samples import Sample, write_sample

EMBEDDED = Path(__file__).parents[2] / "models" / "embedded"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", load_catalog())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the small draft checkpoint, to be changed at will."""
    return Path(shutil.copytree(EMBEDDED / "novels-draft", tmp_path / "mine"))


def draft(checkpoint: Path, tmp_path: Path, *types: str) -> Conversion:
    return Conversion("mine", checkpoint, tmp_path / "models" / "mine", types)


# --- resolving ------------------------------------------------------------------------


def test_a_checkpoint_of_the_catalog_is_known_by_name_and_by_path(
    store: ModelStore, tmp_path: Path
) -> None:
    source = store.resolve("novels-6m")

    assert source == store.resolve(str(EMBEDDED / "novels-6m"))
    assert source.directory == tmp_path / "models" / "novels-6m"
    assert source.checkpoint is not None
    assert source.checkpoint.samefile(EMBEDDED / "novels-6m")
    assert source.types == ("Q8_0", "Q4_K_M", "Q2_K")


def test_a_gguf_path_is_a_single_candidate(store: ModelStore, tmp_path: Path) -> None:
    file = write_sample(tmp_path / "mine.Q8_0.gguf", Sample())

    source = store.resolve(str(file))

    assert (source.name, source.files, source.checkpoint) == ("mine.Q8_0", (file,), None)
    assert prepare_files(source, None, print) == (file,)


def test_a_folder_of_the_models_directory_is_known_by_name(
    store: ModelStore, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    files = tuple(
        write_sample(folder / f"mine-{kind}.gguf", Sample()) for kind in ("Q4_K_M", "Q8_0")
    )
    (folder / ".mine-Q2_K.gguf").touch()
    (folder / "mine-Q2_K.gguf.partial").touch()

    assert store.resolve("mine").files == files
    listed = {model.name: len(model.files) for model in store.list_models()}
    assert (listed["mine"], listed["novels-6m"]) == (2, 0)


def test_an_unknown_name_is_answered_with_the_known_ones(store: ModelStore) -> None:
    with pytest.raises(
        BadSettings, match=r"Known names: novels-6m, smollm2-135m\. Did you mean novels-6m\?"
    ):
        store.resolve("novels6m")


@pytest.mark.parametrize(
    ("name", "message"), [("absent.gguf", "does not exist"), ("empty", "it has no config.json")]
)
def test_a_path_that_is_no_model(
    store: ModelStore, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(BadModelFile, match=message):
        store.resolve(str(tmp_path / name))


def test_adapters_and_projectors_are_refused(tmp_path: Path) -> None:
    adapter = write_sample(tmp_path / "a.gguf", Sample(), [("general.type", "adapter")])
    with pytest.raises(BadModelFile, match=r"is not a model \(its type is 'adapter'\)"):
        read_servable_header(adapter)


def test_two_checkpoints_of_one_name_get_folders_of_their_own(
    store: ModelStore, tmp_path: Path
) -> None:
    first, second = (
        Path(shutil.copytree(EMBEDDED / "novels-draft", tmp_path / d / "final")) for d in "ab"
    )
    prepare_files(store.resolve(str(first)), "Q8_0", lambda event: None)

    assert store.resolve(str(first)).name == "final"
    assert store.resolve(str(second)).name.startswith("final-")


def test_a_hub_cache_directory_is_named_for_its_repository(
    store: ModelStore, tmp_path: Path
) -> None:
    snapshot = tmp_path / "models--org--Tiny Llama" / "snapshots" / "0a1b2c"
    shutil.copytree(EMBEDDED / "novels-draft", snapshot)

    assert store.resolve(str(snapshot)).name == "Tiny-Llama"


# --- the catalog ----------------------------------------------------------------------


def test_the_catalog_of_this_tree_names_checkpoints_that_are_there() -> None:
    catalog = load_catalog()

    assert (catalog.default.name, catalog.fallback.name) == ("smollm2-135m", "novels-6m")
    checkpoints = [entry.checkpoint for entry in catalog.entries if entry.checkpoint is not None]
    assert len(checkpoints) == 2
    assert all((checkpoint / "config.json").is_file() for checkpoint in checkpoints)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "",
        '[[model]]\nname = "a"\ndescription = ""\ncheckpoint = "a"\ntypes = []',
        '[[model]]\nname = "a"\ndescription = ""\npackage = "a==1"\nbytes = 1\ndefault = true',
        '[[model]]\nname = 5\ndescription = ""\ncheckpoint = "a"\ntypes = []\ndefault = true',
    ],
)
def test_a_broken_catalog_is_reported_with_its_path(text: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(text)

    with pytest.raises(SetupError, match=r"catalog\.toml is invalid"):
        load_catalog(tmp_path / "catalog.toml")


# --- converting -----------------------------------------------------------------------


def test_a_checkpoint_is_converted_once(checkpoint: Path, tmp_path: Path) -> None:
    events: list[StoreEvent] = []

    files = ensure_converted(draft(checkpoint, tmp_path, "Q8_0", "Q4_0"), events.append)
    num_events = len(events)
    again = ensure_converted(draft(checkpoint, tmp_path, "Q4_0", "Q8_0"), events.append)

    assert [read_header(file).quantization for file in files] == ["Q8_0", "Q4_0"]
    assert again == files[::-1]
    assert events[0].text == f"converting {checkpoint} to Q8_0, Q4_0"
    assert events[-1].done_bytes == events[-1].total_bytes > 0
    assert len(events) == num_events


def test_only_what_is_missing_is_converted(checkpoint: Path, tmp_path: Path) -> None:
    (kept,) = ensure_converted(draft(checkpoint, tmp_path, "Q8_0"), lambda event: None)
    before = kept.stat().st_mtime_ns

    ensure_converted(draft(checkpoint, tmp_path, "Q8_0", "Q4_0"), lambda event: None)
    assert kept.stat().st_mtime_ns == before
    kept.unlink()
    ensure_converted(draft(checkpoint, tmp_path, "Q8_0", "Q4_0"), lambda event: None)
    assert kept.is_file()


@pytest.mark.parametrize("changed", ["config.json", "1_Pooling/config.json"])
def test_a_changed_checkpoint_makes_every_recorded_file_anew(
    checkpoint: Path, tmp_path: Path, changed: str
) -> None:
    (checkpoint / "1_Pooling").mkdir()
    (checkpoint / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    files = ensure_converted(draft(checkpoint, tmp_path, "Q8_0", "Q4_0"), lambda event: None)
    before = [file.stat().st_mtime_ns for file in files]
    source = checkpoint / changed
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))

    ensure_converted(draft(checkpoint, tmp_path, "Q4_0"), lambda event: None)

    assert all(file.stat().st_mtime_ns > mtime for file, mtime in zip(files, before, strict=True))


def test_a_damaged_file_is_named_and_converted_again(checkpoint: Path, tmp_path: Path) -> None:
    short, long, kept = ensure_converted(
        draft(checkpoint, tmp_path, "Q8_0", "Q4_0", "Q2_K"), lambda event: None
    )
    content = {path: path.read_bytes() for path in (short, long, kept)}
    short.write_bytes(content[short][:-1])
    long.write_bytes(b"JUNK" + content[long][4:])  # as long as it should be
    before = kept.stat().st_mtime_ns
    events: list[StoreEvent] = []

    store = ModelStore(tmp_path / "models", load_catalog())
    assert sorted(prepare_files(store.resolve("mine"), None, events.append)) == sorted(content)

    assert [event.text for event in events[:3]] == [
        f"{short} is damaged: converting it again",
        f"{long} is damaged: converting it again",
        f"converting {checkpoint} to Q8_0, Q4_0",
    ]
    assert {path: path.read_bytes() for path in content} == content
    assert kept.stat().st_mtime_ns == before


def test_a_complete_folder_is_taken_without_being_written_to(
    checkpoint: Path, tmp_path: Path
) -> None:
    conversion = draft(checkpoint, tmp_path, "Q8_0")
    files = ensure_converted(conversion, lambda event: None)
    (conversion.directory / ".lock").unlink()

    assert ensure_converted(conversion, lambda event: None) == files
    assert not (conversion.directory / ".lock").exists(), "nobody may make one on a read-only disk"


def test_converts_notes_are_passed_on(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
    (checkpoint / "trainer_state.json").symlink_to("/nowhere")  # which nobody reads
    events: list[StoreEvent] = []
    ensure_converted(draft(checkpoint, tmp_path, "Q2_K"), events.append)
    (note,) = (event.text for event in events if event.text.startswith("note: "))
    assert "config.json still has a quantization_config" in note


def test_a_bad_checkpoint_is_reported_in_converts_words(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"architectures": ["Nonesuch"]}))

    with pytest.raises(BadModelFile, match=r"mine failed \(exit code 2\): .*Nonesuch"):
        ensure_converted(draft(checkpoint, tmp_path, "Q8_0"), lambda event: None)
    assert not list((tmp_path / "models").rglob("*.gguf"))


def test_two_processes_at_once_convert_once(checkpoint: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from appliance.store.conversion import Conversion, ensure_converted
c = Conversion("mine", Path(sys.argv[1]), Path(sys.argv[2]), ("Q8_0", "Q4_0"))
ensure_converted(c, lambda event: print(event.text, flush=True))
"""
    command = [sys.executable, "-c", program, str(checkpoint), str(tmp_path / "out")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in running]

    assert [process.returncode for process in running] == [0, 0]
    assert sum("to Q8_0, Q4_0" in text for text in said) == 1
    assert read_header(tmp_path / "out" / "mine-Q8_0.gguf").quantization == "Q8_0"


def test_a_known_name_wins_over_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CatalogEntry(
        name="mine", description="", checkpoint=EMBEDDED / "novels-draft", types=("Q8_0",)
    )
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    store = ModelStore(tmp_path / "models", Catalog((entry,), entry, entry))

    assert store.resolve("mine").checkpoint == EMBEDDED / "novels-draft"
    with pytest.raises(BadModelFile, match="it has no config"):
        store.resolve("./mine")
