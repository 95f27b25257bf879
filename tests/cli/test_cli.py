"""The command line: dispatch, errors and exit codes, and the generated pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import __version__
from appliance.cli import main
from appliance.cli.docs import pages
from appliance.store.gguf_header import read_header
from appliance.store.synthetic import RandomShape, write_random_model
from tests.known_machine import know_machine_at

DOCS = Path(__file__).parents[2] / "docs"


def run(*argv: str, home: Path) -> int:
    know_machine_at(home)
    return main(argv, {"HOME": str(home)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "sample-Q8_0.gguf"
    write_random_model(
        path,
        RandomShape(num_layers=2, embd=128, ff=256, heads=4, kv_heads=2, vocab=300, ctx=8192),
        "Q8_0",
    )
    return path


@pytest.mark.parametrize("page", pages(DOCS))
def test_generated_pages_are_up_to_date(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == pages(DOCS)[page], (
        "run `python -m appliance.cli.docs`"
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"appliance {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("fit", "absent.gguf"), "error: absent.gguf does not exist."),
        (("fit", "--ctx", "x"), "error: --ctx must be a whole number of tokens between 64 and"),
        (("fit", "--ctx", "8"), "error: --ctx must be between 64 and 16777216 tokens, or auto"),
        (("fit", "nonesuch"), "error: There is no model 'nonesuch'"),
    ],
)
def test_errors_are_one_line_and_exit_2(
    argv: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv, home=tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "--jsn"), "'appliance list' has no flag --jsn, and what begins with - is one."),
        (("list", "--jsn"), " Did you mean --json? 'appliance list --help' lists its flags."),
        (("sreve",), "'sreve' is no command. Did you mean serve? 'appliance --help' lists them."),
        (("xyzzy",), "'xyzzy' is no command. 'appliance --help' lists them."),
        (
            ("logs", "-n", "abc"),
            "Argument -n/--lines: invalid int value: 'abc'. See 'appliance logs --help'.",
        ),
        (("rm", "a", "b"), "'b' is one argument too many. See 'appliance rm --help'."),
    ],
)
def test_what_a_command_does_not_take(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, home=tmp_path) == 2
    assert message in capsys.readouterr().err


def test_fit_prints_every_candidate_and_the_reason(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", str(model), "--ctx", "512", "--kernels", "off", home=tmp_path) == 0

    lines = capsys.readouterr().out.splitlines()
    candidates = [
        line.split()
        for line in lines
        if line.split()[1:2] == ["Q8_0"] or line.split()[:1] == ["Q8_0"]
    ]
    assert candidates[0][:8] == ["*", "Q8_0", "ppl", "+0.003", "f16", "512", "512", "4"]
    assert candidates[1][:7] == ["Q8_0", "ppl", "+0.003", "q8_0", "512", "512", "4"]
    assert lines[-3] == (
        "Choice: Q8_0 is the only file and fits with context 512 and a pool of 2048 cells of f16 "
        "(enough for every slot)."
    )


def test_fit_as_json(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("fit", str(model), "--json", "--slots", "2", "--threads", "3", "--kernels", "off")
    assert run(*argv, home=tmp_path) == 0

    plan = json.loads(capsys.readouterr().out)
    assert (plan["model"], plan["model_path"], plan["quantization"]) == (
        "sample-Q8_0",
        str(model),
        "Q8_0",
    )
    assert (plan["ctx"], plan["kv_cells"], plan["slots"], plan["threads"]) == (8192, 16384, 2, 3)
    assert plan["need"]["weights_bytes"] == sum(
        tensor.num_bytes for tensor in read_header(model).tensors
    )
    # cells, layers, K and V of two heads, f16
    assert plan["need"]["kv_bytes"] == 16384 * 2 * (64 + 64) * 2
    assert plan["need"]["is_llama_cpps"]
    assert (
        plan["need"]["claimed_bytes"]
        <= plan["budget"]["total_bytes"] - plan["budget"]["headroom_bytes"]
    )
    assert [row["kv_type"] for row in plan["candidates"]] == ["f16", "q8_0"]
    assert plan["device"]["ram_total_bytes"] > 0


def test_fit_exits_3_when_nothing_fits_and_shows_what_everything_would_take(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", str(model), "--ram", "64MiB", home=tmp_path) == 3
    shown = capsys.readouterr()
    assert "error: Nothing fits: the smallest choice (Q8_0, 1 slot, context 512" in shown.err
    rows = [line.split() for line in shown.out.splitlines() if line.split()[:1] == ["Q8_0"]]
    assert [row[3] for row in rows] == ["f16", "q8_0"]
    assert all("does not fit:" in " ".join(row) for row in rows)

    assert run("fit", str(model), "--ram", "64MiB", "--json", home=tmp_path) == 3
    record = json.loads(capsys.readouterr().out)
    needs = [row["need"]["claimed_bytes"] for row in record["candidates"]]
    assert (record["fits"], record["smallest_need_bytes"], len(needs)) == (False, min(needs), 2)
    assert (
        record["smallest_need_bytes"]
        > record["budget"]["total_bytes"] - record["budget"]["headroom_bytes"]
    )


def test_fit_counts_the_draft_and_says_what_becomes_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("novels-6m", "--quant", "Q2_K", "--ctx", "512", "--draft", "auto")
    assert run("fit", *words, "--json", home=tmp_path) == 0
    plan = json.loads(capsys.readouterr().out)
    assert Path(plan["draft"]["path"]).name == "novels-draft-Q8_0.gguf"
    assert plan["draft"]["missing_bytes"] == 0
    # Weights of 1 MB, and 2,048 cells of two layers' keys and values: 2 x 2 heads x 32
    # values x 2 bytes each.
    assert plan["need"]["draft_bytes"] > 1_000_000 + 2048 * 2 * 2 * 2 * 32 * 2
    assert run("fit", *words, home=tmp_path) == 0
    assert (
        "novels-draft-Q8_0.gguf drafts, and sees at most the last 512 tokens"
        in capsys.readouterr().out
    )


def test_fit_converts_a_checkpoint_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", "novels-6m", "--quant", "Q2_K", "--json", home=tmp_path) == 0

    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert plan["model_path"] == str(
        tmp_path / ".local/share/appliance/models/novels-6m/novels-6m-Q2_K.gguf"
    )
    assert (plan["ctx"], plan["train_ctx"]) == (2048, 2048)
    assert captured.err.startswith("converting ")


def test_convert_is_the_command_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", str(tmp_path), "--out", str(tmp_path), home=tmp_path) == 2
    assert "config.json" in capsys.readouterr().err


def test_an_interrupted_command_exits_130(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("appliance.launch.files.read_servable_header", interrupted)
    assert run("fit", str(model), home=tmp_path) == 130


def test_a_reader_that_goes_away_is_no_traceback(model: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from appliance.cli import main
from appliance.launch import machine
from appliance.llama.checks import CpuPaths, PathResult
works = PathResult(True, "works")
machine.cpu_paths = lambda *_: CpuPaths(works, works)
sys.stdin.read()
sys.exit(main(["fit", {str(model)!r}, "--kernels", "off"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": str(tmp_path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
