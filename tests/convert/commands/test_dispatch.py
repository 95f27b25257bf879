"""The command's own behaviour:
what it prints, where the files go, how much memory it takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from convert.__main__ import main
from convert.pipeline import Progress
from convert.progress import Rate, ThrottledBytes, plain_line
from tests.convert.checkpoints import Shape, tensor_sizes, write_checkpoint, write_zeros


def test_json_lines_end_with_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_checkpoint(tmp_path / "tiny", Shape())
    assert (
        main([str(source), "--out", str(tmp_path / "out"), "--types", "q8_0,BF16", "--json"]) == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    progress, done = lines[-2:]
    assert (progress["event"], progress["done_bytes"]) == ("progress", progress["total_bytes"])
    assert done["event"] == "done"
    assert [(Path(file["path"]).name, file["type"]) for file in done["files"]] == [
        ("tiny-Q8_0.gguf", "Q8_0"),
        ("tiny-BF16.gguf", "BF16"),
    ]
    assert all(Path(file["path"]).stat().st_size == file["bytes"] for file in done["files"])


def test_json_reports_a_refusal_as_its_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none"), "--out", str(tmp_path), "--json"]) == 2
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["event"], record["kind"]) == ("error", "missing_file")


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", Shape())
    command = [
        sys.executable,
        "-m",
        "convert",
        str(source),
        "--out",
        str(tmp_path / "out"),
        "--json",
        "--no-verify",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141
    assert list((tmp_path / "out").iterdir()) == []


def test_name_and_default_types(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", Shape())
    assert (
        main([str(source), "--out", str(tmp_path / "a" / "b"), "--name", "mine", "--threads", "1"])
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "mine-Q2_K.gguf",
        "mine-Q4_K_M.gguf",
        "mine-Q8_0.gguf",
    ]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), ([], 2), (["x", "--out", "y", "--no-such"], 2)]
)
def test_usage(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    assert "usage: appliance-convert" in "".join(capsys.readouterr())


def test_plain_progress_comes_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    lines: list[str] = []
    report = ThrottledBytes(
        5.0, lambda progress, rate: lines.append(plain_line(progress, rate)), clock=lambda: now[0]
    )
    for second in range(1, 13):
        now[0] = float(second)
        report(Progress(done_bytes=second * 10**6, total_bytes=12 * 10**6))
    assert lines == [
        " 41 %  5.0 MB of 12.0 MB, 1.0 MB/s, 7 s left",
        " 83 %  10.0 MB of 12.0 MB, 1.0 MB/s, 2 s left",
        "100 %  12.0 MB of 12.0 MB, 1.0 MB/s, 0 s left",
    ]
    assert Rate.of(Progress(0, 10), 1.0) == Rate(None, None)


def test_memory_stays_below_max_ram_with_a_tensor_above_it(tmp_path: Path) -> None:
    """A tensor of 600 MiB, most of it a hole in the file; the whole process,
    interpreter and all, within 192 MiB.
    """
    shape = Shape(hidden=2048, feed_forward=64, num_heads=8, num_kv_heads=1)
    source = write_checkpoint(tmp_path / "big", shape)
    large = replace(shape, vocab=153_600)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "vocab_size": large.vocab}))
    write_zeros(source / "model.safetensors", tensor_sizes(large))
    program = """
import sys
from convert.__main__ import main
from convert.memory import peak_rss_bytes
code = main(sys.argv[1:])
assert "llama_cpp" not in sys.modules
print(peak_rss_bytes() >> 20, code)
"""
    options = ["--types", "Q8_0,Q4_0", "--threads", "16", "--max-ram", "192M"]
    command = [sys.executable, "-c", program, str(source), "--out", str(tmp_path / "out"), *options]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_mib, code = map(int, child.stdout.splitlines()[-1].split())
    assert code == 0
    assert peak_mib < 192
