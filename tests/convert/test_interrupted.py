"""Runs that fail or are ended: nothing is left that looks whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from convert.errors import BadInput, NotEnoughDisk
from convert.pipeline import Job, Progress, convert
from convert.writer import OutputFile, remove_stale
from tests.convert.checkpoints import (
    EMBEDDED,
    Shape,
    write_checkpoint,
)


def test_a_failed_check_publishes_nothing(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def refuse(_vocabulary: object, paths: Sequence[Path]) -> None:
        seen.extend((path.suffix, path.stat().st_size) for path in paths)
        raise BadInput("no")

    job = Job(
        source=write_checkpoint(tmp_path / "source", Shape()),
        directory=tmp_path / "out",
        name="model",
        types=("Q8_0", "F16"),
        num_threads=1,
    )
    with pytest.raises(BadInput, match="no"):
        convert(job, check=refuse)
    assert [suffix for suffix, _ in seen] == [".partial"] * 2
    assert all(size > 0 for _, size in seen)
    assert list(job.directory.iterdir()) == []


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    job = Job(
        source=write_checkpoint(tmp_path / "source", Shape()),
        directory=tmp_path / "out",
        name="model",
        types=("Q8_0", "F16"),
        num_threads=1,
    )
    needed = sum(
        file.num_bytes
        for file in convert(
            Job(
                source=job.source,
                directory=tmp_path / "first",
                name="model",
                types=job.types,
                num_threads=1,
            )
        )
    )
    with pytest.raises(
        NotEnoughDisk, match=rf"has {needed - 1} bytes free, but the 2 output files need {needed}"
    ):
        convert(job, free_bytes=lambda directory: needed - 1)
    assert list(job.directory.iterdir()) == []
    written = convert(job, free_bytes=lambda directory: needed)
    assert [file.path.stat().st_size for file in written] == [file.num_bytes for file in written]


def test_a_failure_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    job = Job(
        source=source, directory=tmp_path / "out", name="model", types=("Q8_0",), num_threads=2
    )
    before = convert(job)[0].path.read_bytes()
    shard = source / "model.safetensors"

    def cut_the_source(progress: Progress) -> None:
        os.truncate(shard, shard.stat().st_size - 1000)

    with pytest.raises(BadInput, match="while it was being read"):
        convert(job, cut_the_source)
    assert [path.name for path in job.directory.iterdir()] == ["model-Q8_0.gguf"]
    assert (job.directory / "model-Q8_0.gguf").read_bytes() == before


PAUSED_CONVERSION = """
import signal

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored here if it is where the tests run
import sys
from contextlib import nullcontext
from convert.commands import convert as command_convert
from convert.__main__ import main

def pause(progress):
    print("under way", flush=True)
    sys.stdin.read()

command_convert.choose_progress = lambda *arguments: nullcontext(pause)
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def paused_conversion(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a child that stands still at its first
    progress, its outputs open.
    """
    arguments = [
        str(EMBEDDED / "novels-draft"),
        "--out",
        str(out),
        "--types",
        "Q8_0,Q2_K",
        "--name",
        "m",
    ]
    command = [sys.executable, "-c", PAUSED_CONVERSION, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"under way\n"
        yield child


def test_kill_in_the_middle_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    with paused_conversion(tmp_path) as child:
        assert len(list(tmp_path.glob(".m-*.partial"))) == 2
        assert remove_stale(tmp_path) == []  # a living run's files are its own
        child.kill()
    assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.glob("*.gguf")) == []
    convert(
        Job(
            source=EMBEDDED / "novels-draft",
            directory=tmp_path,
            name="other",
            types=("Q8_0",),
            num_threads=2,
        )
    )
    assert [path.name for path in tmp_path.iterdir()] == ["other-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_polite_signal_leaves_nothing_at_all(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with paused_conversion(tmp_path) as child:
        child.send_signal(number)
        assert child.wait() == code
    assert list(tmp_path.iterdir()) == []


def test_an_output_has_no_name_until_it_is_committed(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "model.gguf", 4)
    output.write(b"whole"[:4], 0)
    assert not (tmp_path / "model.gguf").exists()
    output.commit()
    output.discard()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("model.gguf", b"whol")
    ]
