"""`appliance-convert org/repo`: the same files as of a folder, and nothing kept but these."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from convert.__main__ import main
from convert.pipeline import Job, convert
from tests.convert.checkpoints import Shape, random_tensors, write_checkpoint
from tests.convert.dequantize import packing
from tests.convert.hub.conftest import REPO, SHARDS
from tests.store.hub_server import Fault, HubServer

TYPES = ("Q8_0", "Q2_K")
LOST = 3  # exit codes
BAD_INPUT = 2


@pytest.fixture(scope="session")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What becomes of the folder, by the files' names."""
    out = tmp_path_factory.mktemp("expected")
    written = convert(Job(source=source, directory=out, name="tiny", types=TYPES, num_threads=2))
    return {file.path.name: file.path.read_bytes() for file in written}


def arguments(out: Path, repo: str = REPO) -> list[str]:
    return [repo, "--out", str(out), "--types", ",".join(TYPES), "--threads", "2", "--no-verify"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fetched(hub: HubServer) -> Counter[str]:
    """Bytes of each file of weights that were asked for at the place where it is stored."""
    bytes_of: Counter[str] = Counter()
    for request in hub.requests:
        stored = re.fullmatch(r"/lfs/.*/(.+\.safetensors)", request.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.range or "")
        if stored is not None and asked is not None:
            bytes_of[stored[1]] += int(asked[2]) + 1 - int(asked[1])
    return bytes_of


def test_the_files_are_those_of_the_folder_and_each_byte_is_read_once(
    hub: HubServer, expected: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    assert main(arguments(tmp_path / "out")) == 0
    assert contents(tmp_path / "out") == expected
    assert hub.downloads() == []
    assert fetched(hub) == {name: (source / name).stat().st_size for name in SHARDS}


def test_the_vocabulary_is_verified_and_files_may_be_split(
    hub: HubServer, source: Path, tmp_path: Path
) -> None:
    options = ["--types", "Q8_0", "--split-max-size", "60K"]
    for place, out in ((REPO, "hub"), (str(source), "folder")):
        assert main([place, "--out", str(tmp_path / out), *options]) == 0
    assert len(contents(tmp_path / "hub")) > 1
    assert contents(tmp_path / "hub") == contents(tmp_path / "folder")


KILLED = """
import sys
import convert.hub.journal
from convert.__main__ import main

convert.hub.journal.SYNC_BYTES = 1
sys.exit(main(sys.argv[1:]))
"""


def test_it_goes_on_after_a_kill(
    hub: HubServer, expected: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    # a header takes two answers, and a tensor of this size one
    hub.order_ranges(SHARDS[0], *[Fault()] * 9, Fault(hold_after=0))
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", KILLED, *arguments(out)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        assert hub.held.wait(60)
        while b"tensors" not in b"".join(path.read_bytes() for path in out.glob(".*.journal")):
            assert child.poll() is None
        child.kill()
    hub.released.set()
    assert list(out.glob("*.gguf")) == []
    assert len(list(out.glob(".*.resumable"))) == len(TYPES)
    hub.range_faults.clear()
    hub.requests.clear()

    assert main(arguments(out)) == 0
    assert contents(out) == expected
    again = fetched(hub)
    assert sum(again.values()) < sum((source / name).stat().st_size for name in SHARDS)


def test_quantized_weights_go_on_after_a_kill(hub: HubServer, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "gptq", Shape(num_layers=2))
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}
    packing.quantize_checkpoint(source, random_tensors(Shape(num_layers=2)), settings, packing.gptq)
    hub.add("org/gptq", {path.name: path.read_bytes() for path in source.iterdir()})
    options = ["--types", "SOURCE,Q8_0", "--threads", "2", "--no-verify", "--out"]
    assert main([str(source), *options, str(tmp_path / "folder")]) == 0
    out = tmp_path / "hub"
    # beside the header, a weight of a layer takes four answers
    hub.order_ranges("model.safetensors", *[Fault()] * 21, Fault(hold_after=0))
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", KILLED, "org/gptq", *options, str(out)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        assert hub.held.wait(60)
        while b"tensors" not in b"".join(path.read_bytes() for path in out.glob(".*.journal")):
            assert child.poll() is None
        child.kill()
    hub.released.set()
    hub.range_faults.clear()
    hub.requests.clear()
    assert main(["org/gptq", *options, str(out)]) == 0
    assert contents(out) == contents(tmp_path / "folder")
    assert fetched(hub)["model.safetensors"] < (source / "model.safetensors").stat().st_size


def test_an_end_does_not_wait_for_a_dead_connection(hub: HubServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hub.order_ranges(SHARDS[0], *[Fault()] * 9, *[Fault(hold_after=0)] * 20)
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HOME": str(tmp_path)}
    environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1000"
    command = [sys.executable, "-m", "convert", *arguments(out)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        assert hub.held.wait(60)
        child.send_signal(signal.SIGINT)
        assert child.wait(100) == 130
    hub.released.set()
    assert len(list(out.glob(".*.resumable"))) == len(TYPES)


def test_a_lost_connection_keeps_what_was_done(
    hub: HubServer, expected: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    hub.order_ranges(SHARDS[1], Fault(), Fault(), *[Fault(cut_after=0)] * 40)
    assert main(arguments(out)) == LOST
    error = capsys.readouterr().err
    assert f"lost while {SHARDS[1]} of {REPO} was read" in error
    assert "give the same command again: it goes on where it stopped" in error
    assert len(list(out.glob(".*.resumable"))) == len(TYPES)
    hub.range_faults.clear()
    assert main(arguments(out)) == 0
    assert contents(out) == expected


def test_a_connection_that_is_cut_is_taken_up_where_it_was(
    hub: HubServer, expected: dict[str, bytes], tmp_path: Path
) -> None:
    hub.order_ranges(SHARDS[0], *[Fault(cut_after=100)] * 8)
    hub.order_ranges("config.json", Fault(ignores_range=True))  # the whole is what is wanted
    assert main(arguments(tmp_path / "out")) == 0
    assert contents(tmp_path / "out") == expected


def test_a_repository_that_changes_meanwhile_is_refused(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = hub.commit(REPO)

    def change(true: dict[str, object]) -> dict[str, object]:
        hub.add(REPO, {**hub.repositories[REPO], "README.md": b"# Another"})
        return true

    hub.lists[REPO] = change
    out = tmp_path / "out"
    assert main(arguments(out)) == BAD_INPUT
    error = capsys.readouterr().err
    assert f"changed while it was read: the hub's list says commit {old}, and now" in error
    assert not out.exists() or contents(out) == {}


def test_a_repository_that_changed_since_a_kill_is_asked_about(
    hub: HubServer, expected: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, old = tmp_path / "out", hub.commit(REPO)
    hub.order_ranges(SHARDS[1], Fault(), Fault(), *[Fault(cut_after=0)] * 40)
    assert main(arguments(out)) == LOST
    hub.range_faults.clear()
    hub.add(REPO, {**hub.repositories[REPO], "LICENSE": b"new"})
    new = hub.commit(REPO)
    capsys.readouterr()
    assert main(arguments(out)) == BAD_INPUT
    error = capsys.readouterr().err
    assert f"To finish it, give {REPO}@{old}; to begin anew, {REPO}@{new}." in error
    assert main(arguments(out, f"{REPO}@{new}")) == 0
    assert contents(out) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"m-Q8_0.gguf": b"GGUF"},
            "has GGUF files, which need no conversion. Serve one: appliance",
        ),
        ({"README.md": b"# Text"}, "org/other is no checkpoint: it has no config.json"),
        (
            {"config.json": None, "pytorch_model.bin": b"pickle"},
            "org/other stores its weights as pickle files",
        ),
        (
            {"config.json": b"<html>", "model.safetensors": b""},
            "org/other/config.json is a web page",
        ),
        (None, "There is no folder org/other, and http"),
    ],
)
def test_what_is_no_checkpoint(
    files: dict[str, bytes | None] | None,
    message: str,
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if files is not None:
        own = hub.repositories[REPO]
        hub.add("org/other", {name: own[name] if b is None else b for name, b in files.items()})
    assert main(arguments(tmp_path / "out", "org/other")) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_token_that_may_not_see_it(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.gated.add(REPO)
    assert main(arguments(tmp_path / "out")) == BAD_INPUT
    assert f"{REPO} requires its terms to be accepted first" in capsys.readouterr().err


def test_a_second_conversion_of_the_same(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.order_ranges(SHARDS[1], Fault(), Fault(), *[Fault(cut_after=0)] * 40)
    assert main(arguments(tmp_path)) == LOST
    hub.range_faults.clear()
    [journal] = tmp_path.glob(".*.journal")
    with journal.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as a process that is under way
        assert main(arguments(tmp_path)) == BAD_INPUT
    assert "is being converted into" in capsys.readouterr().err
    assert len(list(tmp_path.glob(".*.resumable"))) == len(TYPES)


def test_a_hub_without_ranges(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.order_ranges(SHARDS[0], Fault(ignores_range=True))
    assert main(arguments(tmp_path / "out")) == BAD_INPUT
    assert f"Download it first: appliance pull {REPO}" in capsys.readouterr().err
