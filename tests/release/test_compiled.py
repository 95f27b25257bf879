"""What is compiled for a release: where it runs, and what is changed of the sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.llama_cpp import source
from release.target import NotMade
from release.toolchain import Toolchain, find_toolchain

# As readelf says it.
NEEDED = " 0x0000000000000001 (NEEDED)             Shared library: [{}]\n"
VERSION = "  0x0010:   Name: {}  Flags: none  Version: 5\n"


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    """A toolchain whose readelf prints the file that it is given."""
    program = tmp_path / "x86_64-linux-gnu-readelf"
    program.write_text('#!/bin/sh\nexec /bin/cat "$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Toolchain("x86_64")


def check(toolchain: Toolchain, folder: Path, text: str) -> None:
    path = folder / "libours.so"
    path.write_text(text)
    toolchain.check({"libours.so": path, "libgomp.so.1": path})


def test_the_system_and_each_other_may_be_needed(reads: Toolchain, tmp_path: Path) -> None:
    text = "".join(map(NEEDED.format, ("libc.so.6", "libm.so.6", "libgomp.so.1", "libours.so")))
    check(reads, tmp_path, text + VERSION.format("GLIBC_2.34") + VERSION.format("GLIBC_2.2.5"))


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        (NEEDED.format("libstdc++.so.6"), r"libstdc\+\+\.so\.6"),
        (VERSION.format("GLIBC_2.35"), r"GLIBC_2\.35"),
        (VERSION.format("GLIBCXX_3.4.30"), r"GLIBCXX_3\.4\.30"),
    ],
)
def test_anything_else_may_not(reads: Toolchain, tmp_path: Path, text: str, wants: str) -> None:
    with pytest.raises(NotMade, match=f"libours.so needs {wants}, which not every system has"):
        check(reads, tmp_path, text)


def test_a_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotMade, match=r"apt-get install g\+\+-11 \(g\+\+-11-aarch64-linux-gnu "):
        find_toolchain("aarch64")


@pytest.mark.parametrize("times", [0, 2])
def test_a_change_that_does_not_fit_is_none(tmp_path: Path, times: int) -> None:
    (tmp_path / "file").write_text("old " * times)
    with pytest.raises(NotMade, match="is not as it was"):
        source.apply(source.Change("file", "old", "new"), tmp_path)
    (tmp_path / "file").write_text("an old text")
    source.apply(source.Change("file", "old", "new"), tmp_path)
    assert (tmp_path / "file").read_text() == "an new text"
