"""What a scripted child says of the kernels, what becomes of it, and what is remembered."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from appliance.llama.checks import KernelLibrary, KernelMemory, KernelResult, KernelTest
from appliance.llama.checks.kernel_library import find_kernels
from appliance.llama.checks.kernel_test import run_kernel_test

LIBRARY = KernelLibrary(Path("kernels.so"), "abc")
RIGHT = KernelResult(name="matmul q4_k", error=1e-9, speedups={1: 1.0, 8: 2.0})
SLOW = KernelResult(name="matmul f16", error=1e-9, speedups={1: 0.4, 8: 0.8})
WRONG = KernelResult(name="attention f16", error=0.3, speedups={1: 2.0, 8: 2.0})

NAMES = ["matmul q4_k", "matmul f16", "rows"]
CHILD = """
import os, signal, sys, time
library, threads, *known = sys.argv[1:]
print('{"type": "start", "version": "v1", "variant": "avx2", "names": NAMES, "untested": ["rows"]}')
if "matmul q4_k" not in known:
    print('{"type": "begun", "name": "matmul q4_k"}')
    result = '{"name": "matmul q4_k", "error": 0, "speedups": {"8": 2}}'
    print('{"type": "compared", "result": %s}' % result)
print('{"type": "begun", "name": "matmul f16"}', flush=True)
what = "WHAT"
if what == "dies":
    os.kill(os.getpid(), signal.SIGILL)
if what == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "hangs":
    time.sleep(60)
if what == "ends":
    sys.exit()
if what == "is refused":
    sys.exit("ggml does not take it")
print('{"type": "compared", "result": {"name": "matmul f16", "error": 0, "speedups": {"8": 0.5}}}')
print('{"type": "done"}')
"""


def run(what: str, limit_s: float = 60.0, known: KernelTest | None = None) -> KernelTest:
    source = CHILD.replace("WHAT", what).replace("NAMES", json.dumps(NAMES))
    return run_kernel_test(LIBRARY, 2, (sys.executable, "-c", source), limit_s, known)


def test_what_is_right_and_quick_is_used() -> None:
    found = run("is fine")
    assert found.is_whole
    assert (found.version, found.variant, found.failure) == ("v1", "avx2", "")
    assert found.usable() == ("matmul q4_k", "rows")
    assert found.usable(with_slow=True) == ("matmul q4_k", "matmul f16", "rows")


@pytest.mark.parametrize(
    ("what", "failure"),
    [
        ("dies", "their test died of SIGILL in matmul f16"),
        ("ends", "their test failed with status 0: no message in matmul f16"),
        ("is refused", "their test failed with status 1: ggml does not take it in matmul f16"),
    ],
)
def test_a_child_that_does_not_end_well_costs_all_of_them(what: str, failure: str) -> None:
    found = run(what)
    assert found.is_whole
    assert found.failure == failure
    assert found.usable() == found.usable(with_slow=True) == ()


def test_what_there_is_no_time_for_is_left_to_the_next_time() -> None:
    first = run("hangs", limit_s=2.0)
    assert not first.is_whole
    assert (first.usable(), first.left) == (("matmul q4_k", "rows"), ("matmul f16",))
    second = run("is fine", known=first)
    assert second.is_whole
    assert [result.name for result in second.results] == ["matmul q4_k", "matmul f16"]
    assert run("hangs", limit_s=0.0001) == KernelTest(), "not even a beginning"


def test_who_kills_the_child_says_nothing_of_a_kernel() -> None:
    found = run("is killed")
    assert (found.failure, found.left) == ("", ("matmul f16",))
    assert not found.is_whole


def test_flaws_are_named() -> None:
    assert RIGHT.flaw == ""
    assert SLOW.flaw == "is slower than llama.cpp's (0.57 of its speed)"
    assert WRONG.flaw == "computes something else (error 0.3)"
    nothing = KernelResult(name="x", error=float("nan"), speedups={1: 2.0})
    assert not nothing.is_right


def test_where_others_compute_too_nothing_is_held_against_a_kernel() -> None:
    test = KernelTest(version="v1", results=(RIGHT, SLOW, WRONG)).without_slow()
    assert not test.is_whole
    assert test.left == (SLOW.name,)
    assert [result.name for result in test.results] == [RIGHT.name, WRONG.name]


def test_a_test_is_remembered_for_one_library(tmp_path: Path) -> None:
    memory = KernelMemory(tmp_path / "state" / "kernels.json")
    test = KernelTest(version="v1", variant="avx2", results=(RIGHT, SLOW, WRONG))
    assert memory.recall(LIBRARY) is None
    memory.remember(LIBRARY, test)
    assert memory.recall(LIBRARY) == test
    assert memory.recall(KernelLibrary(LIBRARY.path, "another build")) is None
    for at in range(9):
        memory.remember(KernelLibrary(LIBRARY.path, f"build {at}"), test)
    assert memory.recall(LIBRARY) is None, "the oldest makes room"


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "kernels.json").write_text("{")
    assert KernelMemory(tmp_path / "kernels.json").recall(LIBRARY) is None


def test_the_library_is_known_by_its_bytes(tmp_path: Path) -> None:
    assert find_kernels(tmp_path) == "were not built; ./install.sh compiles them"
    (tmp_path / "not-built.txt").write_text("no C++ compiler was found\n")
    assert find_kernels(tmp_path) == "were not built: no C++ compiler was found"
    (tmp_path / "libappliance-kernels.so").write_bytes(b"some")
    found = find_kernels(tmp_path)
    assert isinstance(found, KernelLibrary)
    (tmp_path / "libappliance-kernels.so").write_bytes(b"other")
    assert find_kernels(tmp_path) != found
