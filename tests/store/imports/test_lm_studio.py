"""What LM Studio keeps is found where it says, by the names of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.store.imports.lm_studio import lm_studio_folder, lm_studio_models
from tests.store.imports.folders import write_gguf


def test_models_by_publisher_and_repository(tmp_path: Path) -> None:
    repository = tmp_path / "org" / "tiny-GGUF"
    write_gguf(repository / "tiny-Q8_0.gguf")
    write_gguf(repository / "tiny-Q4_0.gguf")
    write_gguf(repository / "mmproj-tiny-F16.gguf")
    (tmp_path / "org" / "tiny-MLX").mkdir()
    (tmp_path / "org" / "tiny-MLX" / "model.safetensors").touch()
    (tmp_path / "org" / "empty").mkdir()
    found = [(model.name, model.origin, model.problem) for model in lm_studio_models(tmp_path)]
    assert found == [
        ("tiny-Q4_0", "org/tiny-GGUF", ""),
        ("tiny-Q8_0", "org/tiny-GGUF", ""),
        ("tiny-MLX", "org/tiny-MLX", "it is kept for MLX, not as GGUF."),
    ]


@pytest.mark.parametrize("word", ["tiny-Q8_0", "TINY-q8_0", "org/tiny-GGUF", "tiny-GGUF"])
def test_how_one_is_named(tmp_path: Path, word: str) -> None:
    write_gguf(tmp_path / "org" / "tiny-GGUF" / "tiny-Q8_0.gguf")
    [model] = lm_studio_models(tmp_path)
    assert model.is_called(word)
    assert not model.is_called("tiny")


@pytest.mark.parametrize("home", [".lmstudio", ".cache/lm-studio"])
def test_its_usual_places(tmp_path: Path, home: str) -> None:
    (tmp_path / home / "models").mkdir(parents=True)
    assert lm_studio_folder(tmp_path) == tmp_path / home / "models"


def test_the_pointer_and_its_settings_go_before(tmp_path: Path) -> None:
    (tmp_path / ".lmstudio" / "models").mkdir(parents=True)
    elsewhere, downloads = tmp_path / "elsewhere", tmp_path / "disk"
    (elsewhere / "models").mkdir(parents=True)
    downloads.mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{elsewhere}\n")
    assert lm_studio_folder(tmp_path) == elsewhere / "models"
    (elsewhere / "settings.json").write_text(json.dumps({"downloadsFolder": str(downloads)}))
    assert lm_studio_folder(tmp_path) == downloads


def test_where_it_is_not(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"LM Studio has no models in .*name that folder"):
        lm_studio_folder(tmp_path)
