"""`appliance-convert evaluate`: which files it measures, what it keeps, what it prints
and draws.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from convert.__main__ import main
from convert.pipeline import Job, convert
from convert.quality.sidecar import sidecar_path
from tests.convert.checkpoints import EMBEDDED, GOLDEN, Shape, write_checkpoint

TEXT = GOLDEN / "evaluation.txt"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with three types of the embedded model, and a file of another one."""
    folder = tmp_path_factory.mktemp("survey")
    convert(
        Job(
            source=EMBEDDED / "novels-6m",
            directory=folder,
            name="novels",
            types=("F16", "Q8_0", "Q2_K"),
            num_threads=2,
        )
    )
    source = write_checkpoint(folder / "source", Shape())
    convert(Job(source=source, directory=folder, name="other", types=("F32",), num_threads=1))
    (folder / "notes.gguf").write_bytes(b"no model")
    return folder


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """Without what other tests left there."""
    copy = tmp_path / "files"
    copy.mkdir()
    for path in converted.glob("*.gguf"):
        shutil.copy(path, copy)
    return copy


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[list[dict[str, Any]], str]:
    """The JSON lines, and what was said beside them."""
    assert (
        main(
            [
                "evaluate",
                *map(str, arguments),
                "--text",
                str(TEXT),
                "--windows",
                "1",
                "--threads",
                "2",
                "--json",
            ]
        )
        == 0
    )
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_against_a_directory_every_file_of_the_model_is_measured_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, notes = run(capsys, folder / "novels-Q2_K.gguf", "--against", folder)

    finished = [
        line["title"]
        for line in lines
        if line["event"] == "progress" and line["done"] == line["total"] == 1
    ]
    assert finished == ["novels-F16.gguf", "novels-Q2_K.gguf", "novels-Q8_0.gguf"]
    measured = {Path(row["path"]).name: row for row in lines[-1]["files"]}
    assert {name: (row["is_new"], row["is_reference"]) for name, row in measured.items()} == {
        "novels-F16.gguf": (True, True),
        "novels-Q2_K.gguf": (True, False),
        "novels-Q8_0.gguf": (True, False),
    }
    assert measured["novels-F16.gguf"]["measurement"]["reference"] is None
    two, eight = (
        measured[f"novels-{name}.gguf"]["measurement"]["quality"]["divergence"]
        for name in ("Q2_K", "Q8_0")
    )
    assert two["kl_mean"]["value"] > 50 * eight["kl_mean"]["value"] > 0
    assert "the reference is novels-F16.gguf (F16), the most exact file in " in notes
    assert "skipped notes.gguf: llama.cpp cannot load it as a model" in notes
    assert "skipped other-F32.gguf: it is a different model" in notes

    again, _ = run(capsys, folder / "novels-Q2_K.gguf", "--against", folder)
    assert [row["is_new"] for row in again[-1]["files"]] == [False, False, False]
    assert [row["measurement"] for row in again[-1]["files"]] == [
        row["measurement"] for row in lines[-1]["files"]
    ]

    with (folder / "novels-Q2_K.gguf").open("ab") as file:
        file.write(b"\0")
    changed, notes = run(capsys, folder / "novels-Q2_K.gguf", "--against", folder)
    assert [row["is_new"] for row in changed[-1]["files"]] == [False, True, False]
    assert (
        "novels-Q2_K.gguf.quality.json was measured on a different version of novels-Q2_K.gguf "
        "and is ignored" in notes
    )


def test_one_bad_file_does_not_cost_the_others_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = folder / "novels-Q8_0.gguf"
    (norm,) = (
        tensor for tensor in GGUFReader(bad, "r+").tensors if tensor.name == "output_norm.weight"
    )
    norm.data[:] = np.nan
    norm.data.flush()

    options = ["--text", str(TEXT), "--windows", "1", "--threads", "2", "--json"]
    assert (
        main(["evaluate", str(folder / "novels-Q2_K.gguf"), "--against", str(folder), *options])
        == 2
    )
    captured = capsys.readouterr()
    (done,) = (
        record for record in map(json.loads, captured.out.splitlines()) if record["event"] == "done"
    )
    assert [Path(row["path"]).name for row in done["files"]] == [
        "novels-F16.gguf",
        "novels-Q2_K.gguf",
    ]
    assert "skipped: novels-Q8_0.gguf" in captured.err


def test_the_table_as_text_and_markdown(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, reference, markdown = (
        folder / "novels-Q2_K.gguf",
        folder / "novels-F16.gguf",
        tmp_path / "table.md",
    )
    options = ["--text", str(TEXT), "--windows", "1", "--threads", "2", "--markdown", str(markdown)]
    assert main(["evaluate", str(model), "--reference", str(reference), *options]) == 0

    out = capsys.readouterr().out
    assert "novels-Q2_K.gguf" in out
    assert (
        "1 window of 512 tokens of evaluation.txt, compared with novels-F16.gguf, f16 KV cache."
        in " ".join(out.split())
    )
    heading, ruler, row, *_ = markdown.read_text(encoding="utf-8").splitlines()
    assert (
        heading
        == "| file | bytes | perplexity | perplexity ratio | mean KL (nats) | 99th percentile | "
        "same top token |"
    )
    assert ruler == "| :--- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert row.startswith(f"| novels-Q2_K.gguf | {model.stat().st_size:,} | ")
    assert row.count(" ± ") == 5
    assert sidecar_path(model).exists()
    assert not sidecar_path(reference).exists()


def test_the_picture(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed (extra: plots)")
    (folder / "other-F32.gguf").unlink()
    lines, _ = run(capsys, "--against", folder, "--picture", tmp_path / "size")

    assert lines[-1]["written"] == [str(tmp_path / "size.svg"), str(tmp_path / "size.png")]
    svg = (tmp_path / "size.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {label} -->" in svg for label in ("Q8_0", "Q2_K"))
    assert (tmp_path / "size.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "size.svg").unlink()
    run(capsys, "--against", folder, "--picture", tmp_path / "size")
    assert (tmp_path / "size.svg").read_text(encoding="utf-8") == svg


def test_a_read_only_place_keeps_nothing_but_shows_the_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = folder / "novels-Q2_K.gguf"
    sidecar_path(model).mkdir()
    lines, notes = run(capsys, model)

    assert (lines[-1]["files"][0]["is_new"], lines[-1]["files"][0]["sidecar"]) == (True, None)
    assert "the result was not saved: " in notes


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Pass a MODEL.gguf to measure, or a folder of models with --against DIR"),
        (["{folder}/novels-Q2_K.gguf"], "--text FILE is required: plain text (UTF-8)"),
        (["{folder}/none.gguf", "--text", str(TEXT)], "none.gguf does not exist"),
        (["--against", "{folder}/none", "--text", str(TEXT)], "none does not exist"),
        (
            ["--against", "{folder}", "--text", str(TEXT)],
            "contains 2 different models, such as novels-Q8_0.gguf, other-F32.gguf",
        ),
        (
            ["{folder}/notes.gguf", "--against", "{folder}", "--text", str(TEXT)],
            "notes.gguf as a model",
        ),
        (["{folder}/notes.gguf", "--text", str(TEXT)], "llama.cpp cannot load"),
        (
            ["{folder}/novels-Q2_K.gguf", "--text", str(TEXT), "--markdown", "{folder}/none/x.md"],
            "x.md cannot be written: the directory ",
        ),
    ],
)
def test_what_is_refused(
    arguments: list[str], complaint: str, converted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *(argument.format(folder=converted) for argument in arguments)]) == 2
    assert complaint in capsys.readouterr().err


def test_a_picture_without_matplotlib_names_the_extra(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    picture = ["--picture", str(tmp_path / "p")]
    assert main(["evaluate", str(folder / "novels-Q2_K.gguf"), "--text", str(TEXT), *picture]) == 2
    assert "pip install 'appliance[plots]'" in capsys.readouterr().err
    assert not sidecar_path(folder / "novels-Q2_K.gguf").exists()
