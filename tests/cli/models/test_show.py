"""`appliance show`: what a model's files say, and what of it fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.llama.checks import CpuPaths, PathResult
from appliance.store.synthetic import RandomShape, write_random_model

SHAPE = RandomShape(num_layers=2, embd=128, ff=256, heads=4, kv_heads=2, vocab=300, ctx=8192)


@pytest.fixture(autouse=True)
def _plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probing CPU paths is tested where it is done, and takes seconds."""
    works = PathResult(True, "works")
    monkeypatch.setattr("appliance.launch.machine.cpu_paths", lambda *_: CpuPaths(works, works))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "sample-Q8_0.gguf"
    write_random_model(path, SHAPE, "Q8_0")
    return path


def run(*words: str, home: Path) -> int:
    return main(("show", *words), {"HOME": str(home)})


def test_as_lines(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(model), "--ctx", "512", "--kernels", "off", home=tmp_path) == 0
    said = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip()
    )
    assert said["Name"] == "sample-Q8_0"
    assert said["Kind"] == "continues text"
    assert said["Architecture"] == "llama"
    assert said["Trained"] == "for   8192 tokens"
    assert said["File"].startswith(f"{model}, ")
    assert said["Here:"].startswith("Q8_0, context 512, 4 slots, ")


def test_as_json(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(model), "--json", "--slots", "2", "--kernels", "off", home=tmp_path) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["architecture"], record["train_ctx"]) == (
        "sample-Q8_0",
        "llama",
        8192,
    )
    assert record["files"] == [{"path": str(model), "bytes": model.stat().st_size}]
    # two layers, a norm, and 300 tokens, whose rows are also what comes out
    in_layers = 2 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 256 + 2 * 128)
    assert record["num_params"] == in_layers + 128 + 300 * 128
    fit = record["fit"]
    assert (fit["path"], fit["ctx"], fit["slots"]) == (str(model), 8192, 2)


def test_nothing_fits_is_no_failure(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(model), "--ram", "64MiB", "--json", home=tmp_path) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["fit"] is None
    assert record["fit_reason"].startswith("Nothing fits: the smallest choice")


def test_a_checkpoint_is_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("novels-6m", home=tmp_path) == 0
    assert "Here: It is converted when it is first served" in capsys.readouterr().out
    assert [*tmp_path.rglob("*.gguf")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("qwen3-4b",), "error: qwen3-4b has not been downloaded. 'appliance fit qwen3-4b' shows"),
        (("org/absent",), "error: org/absent has not been downloaded. 'appliance fit org/absent'"),
        (("nonesuch",), "error: There is no model 'nonesuch'"),
    ],
)
def test_what_is_not_here(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, home=tmp_path) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_packages_files_are_where_the_package_is(
    real_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("smollm2-135m", "--kernels", "off", home=tmp_path) == 0
    out = capsys.readouterr().out
    assert f"From          {real_model.parent}\n" in out


def test_the_template_alone(
    real_model: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(real_model), "--template", home=tmp_path) == 0
    assert "<|im_start|>" in capsys.readouterr().out
    assert run(str(model), "--template", home=tmp_path) == 2
    assert capsys.readouterr().err == "error: sample-Q8_0 has no chat template.\n"
