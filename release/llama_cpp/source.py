"""llama-cpp-python's sources as they are built here: the pinned ones, and what is changed.

Knows where the changes go, and fails where one does not fit. Builds nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from release.pip import run_pip
from release.target import NotMade, pinned_version

PACKAGE = "llama-cpp-python"
# Of the pinned version's sources on PyPI: the same input, or none.
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
ADDED = Path(__file__).with_name("cpu_variants.py")


@dataclass(frozen=True)
class Change:
    """In one file, a text that is there exactly once."""

    file: str
    old: str
    new: str


_VARIANT = "            ggml_add_cpu_backend_variant"
CHANGES = (
    # The bindings load the back end for this CPU when they are imported.
    Change(
        "llama_cpp/llama_cpp.py",
        "_lib = load_shared_library(_lib_base_name, _base_path)\n",
        "_lib = load_shared_library(_lib_base_name, _base_path)\n"
        "from llama_cpp import cpu_variants\n\n"
        "cpu_variants.load(_lib, _base_path)\n",
    ),
    # Nothing in the wheel uses it, and it takes a fifth of the time.
    Change(
        "CMakeLists.txt",
        "set(LLAMA_BUILD_COMMON ON CACHE BOOL",
        "set(LLAMA_BUILD_COMMON OFF CACHE BOOL",
    ),
    # SME needs GCC 14: docs/known-limits.md.
    Change(
        "vendor/llama.cpp/ggml/src/CMakeLists.txt",
        f"{_VARIANT}(armv9.2_1    DOTPROD FP16_VECTOR_ARITHMETIC SVE MATMUL_INT8 SME)\n"
        f"{_VARIANT}(armv9.2_2    DOTPROD FP16_VECTOR_ARITHMETIC SVE MATMUL_INT8 SVE2 SME)\n",
        "",
    ),
)


def identity() -> str:
    """Changes with the sources and with what is changed in them."""
    return repr((SHA256, CHANGES, ADDED.read_text()))


def unpack(folder: Path) -> Path:
    """The changed sources, in a folder below `folder`. Raises `NotMade`."""
    version = pinned_version(PACKAGE)
    with tempfile.TemporaryDirectory() as scratch:
        command = ["download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", scratch]
        run_pip([*command, f"{PACKAGE}=={version}"])
        (archive,) = Path(scratch).iterdir()
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            raise NotMade(f"{archive.name} has another SHA-256 than release/llama_cpp knows")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    source = folder / f"{PACKAGE.replace('-', '_')}-{version}"
    for change in CHANGES:
        apply(change, source)
    shutil.copy(ADDED, source / "llama_cpp")
    return source


def apply(change: Change, source: Path) -> None:
    """Raises `NotMade` where it does not fit."""
    path = source / change.file
    text = path.read_text(encoding="utf-8")
    if text.count(change.old) != 1:
        raise NotMade(f"{change.file} of {source.name} is not as it was when this was written")
    path.write_text(text.replace(change.old, change.new), encoding="utf-8")
