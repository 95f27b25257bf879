"""kernels/build.py on a small tree of its own: what is compiled, what again, and what it
says where it cannot be.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
REPORT = r'extern "C" __attribute__((visibility("default"))) '

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or shutil.which("c++") is None,
    reason="needs Linux on x86-64 and a C++ compiler",
)


class Tree:
    """A checkout that has only kernels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "appliance" / "llama" / "native" / "libappliance-kernels.so"
        (folder / "kernels").mkdir()
        shutil.copy(KERNELS / "build.py", folder / "kernels")
        self.write(
            "backend/version.cpp", REPORT + "const char *version() { return KERNELS_VERSION; }"
        )
        self.write("rows/lanes.h", "inline int lanes() { return 16; }")
        self.write(
            "rows/rows.cpp",
            '#include "lanes.h"\nnamespace VARIANT { int rows(int x) { return x * lanes(); } }',
        )

    def write(self, name: str, source: str) -> None:
        path = self.folder / "kernels" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source + "\n")

    def build(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "kernels/build.py", *options],
            cwd=self.folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def objects(self) -> dict[str, int]:
        folder = self.folder / "build" / "kernels" / "x86_64"
        return {
            path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
            for path in folder.rglob("*.o")
        }


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_each_kernel_is_compiled_for_each_variant_and_the_rest_once(tree: Tree) -> None:
    done = tree.build()
    assert done.returncode == 0, done.stderr
    assert tree.objects().keys() == {
        "once/backend/version.o",
        "avx512/rows/rows.o",
        "avx2/rows/rows.o",
        "baseline/rows/rows.o",
    }
    assert tree.library.exists()


def test_the_library_knows_its_version(tree: Tree) -> None:
    version = tree.build().stdout.split()[-1]
    assert version.encode() in tree.library.read_bytes()
    tree.write("rows/lanes.h", "inline int lanes() { return 8; }")
    assert tree.build().stdout.split()[-1] != version


def test_nothing_changed_nothing_is_done(tree: Tree) -> None:
    tree.build()
    before = tree.objects()
    assert "is up to date" in tree.build().stdout
    assert tree.objects() == before


def test_a_changed_header_compiles_what_includes_it(tree: Tree) -> None:
    tree.write("threads/team.cpp", "int team() { return 2; }")
    tree.build()
    before = tree.objects()
    tree.write("rows/lanes.h", "inline int lanes() { return 4; }")
    assert "built" in tree.build().stdout
    changed = {name for name, time in tree.objects().items() if time != before[name]}
    # the version is another one too
    assert changed == before.keys() - {"once/threads/team.o"}


def test_the_check_is_a_program_of_its_own(tree: Tree) -> None:
    version = tree.build().stdout.split()[-1]
    tree.write("check/main.cpp", "int main() { return 3; }")
    assert tree.build().stdout.split()[-1] == version
    assert "once/check/main.o" not in tree.objects()
    program = tree.folder / "check"
    tree.build("--check", "--out", str(program))
    assert subprocess.run([program], check=False).returncode == 3


def test_what_does_not_compile_is_named(tree: Tree) -> None:
    tree.write("rows/rows.cpp", "int rows() { return nothing; }")
    done = tree.build()
    assert done.returncode == 1
    assert "The kernels were not built: c++ failed: kernels/rows/rows.cpp:1:" in done.stderr
    assert not tree.library.exists()


def test_a_function_that_nobody_has_is_no_library(tree: Tree) -> None:
    tree.write("threads/team.cpp", REPORT + "int team() { int nobody(); return nobody(); }")
    done = tree.build()
    assert "The kernels were not built" in done.stderr
    assert "nobody" in done.stderr


@pytest.mark.parametrize(
    ("options", "environment", "reason"),
    [
        ((), {"PATH": "/nowhere"}, "no C++ compiler was found (c++, g++ or clang++)"),
        ((), {"CXX": "no-compiler -O1"}, "no C++ compiler was found (no-compiler -O1)"),
        (
            ("--machine", "riscv64"),
            {},
            "there are no kernels for riscv64, only for x86_64, aarch64",
        ),
    ],
)
def test_where_they_cannot_be_it_says_why(
    tree: Tree, options: tuple[str, ...], environment: dict[str, str], reason: str
) -> None:
    done = tree.build(*options, **environment)
    assert done.returncode == 1
    assert done.stderr == f"The kernels were not built: {reason}.\n"
