"""The bundle: a folder that installs itself, and the same as one archive.

Knows what install.sh needs beside it, and how bytes stay the same. Knows no compiler and
no package index.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from release.target import CHECKOUT, GLIBC, PYTHONS, NotMade, Target, pinned_version

INSTALLER = ("install.sh", "install", "systemd", "LICENSE", "models/catalog.toml")
MANIFEST = "appliance-wheels.txt"  # as install/offline.sh reads it
SUMS = "SHA256SUMS"


def put_installer(target: Target) -> None:
    """What of the checkout is needed to install from wheels."""
    for name in INSTALLER:
        source, place = CHECKOUT / name, target.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(source, place)
        else:
            shutil.copy(source, place)


def write_manifest(target: Target) -> None:
    """What the wheels are for, beside them: "NAME VALUE" lines. Raises `NotMade` where
    one of ours is missing.
    """
    own = _only_wheel(target, "appliance")
    llama = _only_wheel(target, "llama_cpp_python")
    digest = hashlib.sha256((target.wheels / llama).read_bytes()).hexdigest()
    lines = [
        f"python {' '.join(PYTHONS)}",
        "system Linux",
        f"machine {target.machine}",
        f"libc glibc {GLIBC}",
        "accelerator cpu",
        "cpu any",
        f"key {pinned_version('llama-cpp-python')}-{target.machine}-{digest[:12]}",
        f"own {own}",
    ]
    (target.wheels / MANIFEST).write_text("\n".join(lines) + "\n")


def write_sums(target: Target) -> None:
    """SHA-256 of every file, as `sha256sum -c` reads them."""
    _write_sums(target.folder, find_files(target.folder))


def write_download_sums(target: Target) -> None:
    """Likewise, of the files that people download."""
    _write_sums(target.out, (path for path in sorted(target.out.iterdir()) if path.is_file()))


def _write_sums(folder: Path, paths: Iterable[Path]) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}"
        for path in paths
        if path != folder / SUMS
    ]
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def pack(target: Target) -> None:
    """The folder as one archive: names in order, no owner, one date, plain modes."""
    with (
        target.archive.open("wb") as file,
        # level 1: wheels are compressed already
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in find_files(target.folder):
            info = archive.gettarinfo(path, f"{target.name}/{path.relative_to(target.folder)}")
            info.mtime = target.epoch
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(info, content)


def find_files(folder: Path) -> Iterator[Path]:
    """Every file, in an order that no file system decides."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return iter(sorted(paths, key=lambda path: path.relative_to(folder).as_posix()))


def _only_wheel(target: Target, name: str) -> str:
    found = [path.name for path in target.wheels.glob(f"{name}-*.whl")]
    if len(found) != 1:
        raise NotMade(f"{target.wheels} should hold one wheel of {name}: {found or 'none'}")
    return found[0]
