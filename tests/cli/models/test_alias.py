"""`appliance alias`: a name of one's own is a model's name to every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.launch.names import named_models
from appliance.settings import ServeSettings
from tests.store.samples import Sample, write_sample


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "plays").mkdir(parents=True)
    write_sample(folder / "plays" / "plays-Q8_0.gguf", Sample())
    return folder


def run(models_dir: Path, *words: str) -> int:
    environ = {"HOME": str(models_dir.parent), "APPLIANCE_MODELS_DIR": str(models_dir)}
    return main(words, environ)


def test_the_name_is_served_in_the_models_place(models_dir: Path) -> None:
    assert run(models_dir, "alias", "coder", "plays") == 0
    [model] = named_models(
        ServeSettings(model=("coder",), models_dir=models_dir, state_dir=models_dir)
    )
    assert (model.id, model.spec.argument) == ("coder", "plays")


def test_of_a_name_it_is_one_of_the_same_model(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(models_dir, "alias", "coder", "plays")
    run(models_dir, "alias", "gpt-4", "coder")
    capsys.readouterr()
    assert run(models_dir, "alias", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "coder", "model": "plays"},
        {"name": "gpt-4", "model": "plays"},
    ]


def test_a_path_is_kept_whole(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(models_dir)
    run(models_dir, "alias", "mine", "plays/plays-Q8_0.gguf")
    run(models_dir, "alias")
    assert f"mine  {models_dir}/plays/plays-Q8_0.gguf" in capsys.readouterr().out


def test_a_part_keeps_the_name_by_which_the_others_are_found(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models_dir.parent / "cache"
    folder.mkdir()
    write_sample(folder / "m.gguf", Sample(), split_max_tensors=2)
    first, *_ = sorted(folder.iterdir())
    blob = first.rename(folder / "blob")  # as Hugging Face's cache has it
    first.symlink_to(blob)
    assert run(models_dir, "alias", "mine", str(first)) == 0
    run(models_dir, "alias")
    assert f"mine  {first}" in capsys.readouterr().out


def test_the_list_has_it(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(models_dir, "alias", "coder", "plays")
    run(models_dir, "list")
    assert capsys.readouterr().out.splitlines()[-1] == "coder: another name of plays"


def test_a_name_goes_alone_and_a_model_with_its_names(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(models_dir, "alias", "coder", "plays")
    capsys.readouterr()
    assert run(models_dir, "rm", "coder") == 0
    assert capsys.readouterr().out.startswith("Deleted the name coder. The model is plays: ")
    assert (models_dir / "plays").is_dir()
    run(models_dir, "alias", "coder", "plays")
    assert run(models_dir, "rm", "plays") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Deleted the name coder",
        f"Deleted {models_dir}/plays",
    ]
    run(models_dir, "alias")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("model", ["novels-6m", "elsewhere.gguf", "org/repo:Q8_0"])
def test_rm_is_not_advised_for_what_it_would_refuse(
    models_dir: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(models_dir.parent)
    write_sample(Path("elsewhere.gguf"), Sample())
    run(models_dir, "alias", "coder", model)
    capsys.readouterr()
    assert run(models_dir, "rm", "coder") == 0
    origin = models_dir.parent / model if model.endswith(".gguf") else model
    assert capsys.readouterr().out == f"Deleted the name coder. The model is {origin}.\n"
    assert run(models_dir, "rm", str(origin)) == 2


def test_what_comes_with_the_appliance_is_not_called_unknown(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models_dir, "rm", "novels-6m") == 2
    assert capsys.readouterr().err == (
        f"error: novels-6m comes with the appliance, and nothing of it is in {models_dir}: only "
        "what is there can be deleted.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("coder",), "Of which model? 'appliance alias coder MODEL' gives it that name."),
        (("coder", "absent"), "There is no model 'absent'"),
        (("plays", "novels-6m"), "plays is a model's own name. Choose another one."),
        (("a b", "plays"), "Invalid 'NAME': a name has letters, digits"),
        (("auto", "plays"), "Invalid 'NAME': auto is a word with a meaning of its own."),
        (("none", "plays"), "Invalid 'NAME': none is a word with a meaning of its own."),
        (("qwen3-4b", "plays"), "qwen3-4b is the catalog's name of unsloth/Qwen3-4B-"),
        (("smollm2:135m", "plays"), "smollm2:135m is the catalog's name of unsloth/SmolLM2-135M-"),
    ],
)
def test_what_is_no_name(
    models_dir: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models_dir, "alias", *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
