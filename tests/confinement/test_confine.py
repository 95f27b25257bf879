"""A confined process keeps its model, its state and computing, and can do nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.confinement import landlock

pytestmark = pytest.mark.skipif(
    landlock.version() < 6, reason="needs Landlock with scopes (Linux 6.12)"
)

ALLOWED = {
    "read the model": "weights",
    "write state": 1,
    "rename state": "b",
    "remove state": "possible",
    "a pair of sockets": 2,
    "numbers": 4096,
    "a renderer": 0,
}
DENIED = {
    **dict.fromkeys(["write the model", "remove the model", "read beside it"], "EACCES"),
    **dict.fromkeys(["list its folder", "write /etc/passwd", "read /etc/passwd"], "EACCES"),
    **dict.fromkeys(["a shell", "the parent's environment", "a thread"], "EACCES"),
    **dict.fromkeys(["a TCP socket", "a UDP socket", "a Unix socket", "a name space"], "EPERM"),
    "trace": "EPERM",
    **dict.fromkeys(["signal the parent", "change a mode", "touch /etc/passwd"], "EPERM"),
}

IN_PARTS = """
import json, pathlib, sys
from appliance.llama.confining import confine_to_model
from appliance.llama.loading.weight_files import files_of
from appliance.protocol.kernel_use import NO_KERNELS
model = pathlib.Path(sys.argv[1])
confine_to_model(model, NO_KERNELS)
print(json.dumps([path.read_text() for path in files_of(model)]))
"""

WITH_GPUS = """
import errno, json, os, socket, subprocess
from appliance.confinement.confine import Needs, confine
confine(Needs(uses_gpus=True))

def outcome(name, attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return name

print(json.dumps([
    outcome("device", lambda: os.open("/dev/zero", os.O_RDWR)),
    outcome("Unix", lambda: socket.socket(socket.AF_UNIX)),
    outcome("TCP", lambda: socket.socket(socket.AF_INET)),
    outcome("file", lambda: os.open("/etc/passwd", os.O_RDONLY)),
    outcome("program", lambda: subprocess.run(["/bin/true"])),
]))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By a process that confined itself."""
    folder = tmp_path_factory.mktemp("confined")
    (folder / "model.gguf").write_text("weights")
    (folder / "beside.gguf").write_text("others'")
    command = [sys.executable, "-m", "tests.confinement.confined"]
    child = subprocess.run(
        [*command, str(folder / "model.gguf"), str(folder / "state")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer


def test_nothing_is_missing(found: dict[str, Any]) -> None:
    assert found.keys() == {*ALLOWED, *DENIED, "in force", "gaps"}
    assert found["gaps"] == []
    version = landlock.version()
    assert found["in force"] == f"confined: files (Landlock {version}) and system calls (seccomp)"


@pytest.mark.parametrize("what", ALLOWED)
def test_what_a_worker_needs_is_possible(what: str, found: dict[str, Any]) -> None:
    assert found[what] == ALLOWED[what]


@pytest.mark.parametrize("what", DENIED)
def test_all_else_fails(what: str, found: dict[str, Any]) -> None:
    assert found[what] == DENIED[what]


def test_a_model_in_parts_is_found_whole(tmp_path: Path) -> None:
    names = [f"m-{number:05}-of-00002.gguf" for number in (1, 2)]
    for name in names:
        (tmp_path / name).write_text(name)
    child = subprocess.run(
        [sys.executable, "-c", IN_PARTS, str(tmp_path / names[0])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(child.stdout) == names


def test_with_gpus_devices_and_unix_sockets_stay() -> None:
    child = subprocess.run(
        [sys.executable, "-c", WITH_GPUS], capture_output=True, text=True, check=True
    )
    assert json.loads(child.stdout) == ["device", "Unix", "EPERM", "EACCES", "EACCES"]
