"""`appliance import`: models of other programs are served by their names, with their own
settings, and nothing is written twice.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.launch.library.recipes import CreatedModels
from appliance.launch.names import model_spec
from appliance.settings import ServeSettings
from tests.store.imports.folders import OllamaFolder, write_gguf

MODELS = ".local/share/appliance/models"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


def run(tmp_path: Path, *words: str) -> int:
    environ = {"HOME": str(tmp_path), "APPLIANCE_MODELS_DIR": str(tmp_path / "models")}
    return main(("import", *words), environ)


@pytest.fixture
def ollama(tmp_path: Path) -> OllamaFolder:
    """With two names for one file, and one model that cannot be used."""
    folder = OllamaFolder(tmp_path / ".ollama" / "models")
    weights = write_gguf(tmp_path / "sample.gguf").read_bytes()
    folder.add("library/tiny/latest", weights)
    folder.add(
        "library/mario/1b",
        weights,
        system="You are Mario.",
        params={"temperature": 0.5, "num_ctx": 4096, "top_p": 7},
    )
    folder.add("library/broken/latest", b"no model")
    return folder


def test_models_of_ollama_keep_names_and_settings(
    tmp_path: Path, models_dir: Path, ollama: OllamaFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "ollama", "--json") == 1, "one of them cannot be used"
    outcomes = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert {name: (each["outcome"], each["serve_as"]) for name, each in outcomes.items()} == {
        "broken": ("left out", None),
        "mario:1b": ("linked, not copied", "mario:1b"),
        "tiny": ("is here already", "tiny"),
    }
    assert "does not begin with GGUF" in outcomes["broken"]["problem"]
    assert outcomes["mario:1b"]["remarks"] == [
        "its parameter top_p is not kept: 7 is not taken here."
    ]
    assert sorted(path.name for path in models_dir.iterdir() if path.is_dir()) == [
        ".created",
        "mario-1b",
    ]
    mario, tiny = CreatedModels(models_dir).read()
    assert (mario.name, mario.argument, mario.defaults.system, mario.defaults.parameters) == (
        "mario:1b",
        "mario-1b",
        "You are Mario.",
        {"temperature": 0.5, "num_ctx": 4096},
    )
    assert (tiny.name, tiny.argument, tiny.defaults.system) == ("tiny", "mario-1b", "")


def test_they_are_served_by_their_names(
    tmp_path: Path, models_dir: Path, ollama: OllamaFolder
) -> None:
    assert run(tmp_path, "ollama", "mario:1b") == 0
    spec = model_spec(
        ServeSettings(model=("mario:1b",), models_dir=models_dir, state_dir=models_dir)
    )
    assert spec.argument == "mario-1b"


def test_a_second_time_nothing_changes(
    tmp_path: Path, ollama: OllamaFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "ollama", "tiny", "mario:1b")
    capsys.readouterr()
    assert run(tmp_path, "ollama", "tiny:latest", "mario:1b") == 0
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[1:3]] == [
        ["mario:1b", "0.4", "MiB", "is", "here", "already", "mario:1b"],
        ["tiny", "0.4", "MiB", "is", "here", "already", "tiny"],
    ]


def test_a_dry_run_writes_nothing(
    tmp_path: Path, models_dir: Path, ollama: OllamaFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "ollama", "--dry-run") == 1
    said = capsys.readouterr().out
    assert said.count("would be linked, not copied") == 2
    assert "\nbroken: " in said
    assert not models_dir.exists()


def test_quantizations_of_lm_studio_are_one_model(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / ".lmstudio" / "models" / "org" / "tiny-GGUF"
    write_gguf(repository / "tiny-Q8_0.gguf")
    write_gguf(repository / "tiny-Q4_0.gguf", tokens=301)
    assert run(tmp_path, "lmstudio", "--json") == 0
    outcomes = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["serve_as"]) for each in outcomes] == [
        ("tiny-Q4_0", "tiny-GGUF"),
        ("tiny-Q8_0", "tiny-GGUF"),
    ]
    # as if it had been pulled: the repository's name means it, too
    spec = model_spec(
        ServeSettings(model=("org/tiny-GGUF:Q8_0",), models_dir=models_dir, state_dir=models_dir)
    )
    assert spec.argument == "org/tiny-GGUF:Q8_0"
    assert CreatedModels(models_dir).read() == []


def test_a_file(tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_gguf(tmp_path / "downloads" / "tiny.gguf")
    assert run(tmp_path, str(path)) == 0
    assert "linked, not copied" in capsys.readouterr().out
    assert (models_dir / "tiny" / "tiny.gguf").samefile(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent.gguf",), "absent.gguf is neither a GGUF file nor one of ollama and lmstudio."),
        (("lmstudio",), "LM Studio has no models in "),
        (("ollama", "--from-dir", "absent"), "--from-dir absent is no directory. Check the path."),
        (
            ("lmstudio", "--from-dir", "/dev"),
            "--from-dir /dev has nothing of lmstudio. It must be the folder that has PUBLISHER/",
        ),
        (
            ("ollama", "--from-dir", "/dev"),
            "--from-dir /dev has nothing of ollama. It must be the folder that has manifests/ and",
        ),
        (("ollama", "absent"), "ollama has no model 'absent'. The models there are: broken, mario"),
    ],
)
def test_what_is_not_there(
    tmp_path: Path,
    ollama: OllamaFolder,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path, *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
