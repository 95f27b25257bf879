"""appliance_VERSION_ARCH.deb: the bundle, the unit, the settings, and the scripts that make an
environment of them where it is installed.

Knows where Debian wants what; the scripts beside it know what is done there.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from string import Template

from release.bundle import find_files
from release.target import CHECKOUT, GLIBC, PYTHONS, NotMade, Target

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MAINTAINER = "The appliance's releases <releases@appliance.invalid>"
TEMPLATES = Path(__file__).parent
BUNDLE = "usr/lib/appliance"
UNIT = "usr/lib/systemd/system/appliance.service"
SETTINGS = "etc/appliance/appliance.toml"
DOC = "usr/share/doc/appliance"
# Wheels are compressed already: more would take minutes, and save a hundredth. Not xz, whose
# bytes depend on the number of its threads.
COMPRESSION = ("-Zgzip", "-z1")
COMMANDS = ("appliance", "appliance-convert")


def make(target: Target) -> None:
    """The package beside the bundle, and of nothing but it.

    Raises `NotMade` where dpkg-deb is missing or refuses.
    """
    if shutil.which("dpkg-deb") is None:
        raise NotMade("dpkg-deb is not here: apt-get install dpkg, or leave out the step deb")
    with tempfile.TemporaryDirectory(prefix="appliance-deb-") as scratch:
        root = Path(scratch) / "root"
        _put_files(target, root)
        _put_control(target, root)
        _make_plain(root, target.epoch)
        done = subprocess.run(
            ["dpkg-deb", "--root-owner-group", *COMPRESSION, "--build", root, path_of(target)],
            env=os.environ | {"SOURCE_DATE_EPOCH": str(target.epoch)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotMade(f"dpkg-deb failed: {done.stderr.strip()}")


def path_of(target: Target) -> Path:
    """Of the package."""
    architecture = ARCHITECTURES[target.machine]
    return target.out / f"appliance_{debian_version(target.version)}_{architecture}.deb"


def debian_version(version: str) -> str:
    """A Python version as Debian sorts it: 1.0rc1 is before 1.0."""
    return re.sub(r"\.?(a|b|rc|dev)(\d+)", r"~\1\2", version)


def _put_files(target: Target, root: Path) -> None:
    shutil.copytree(target.folder, root / BUNDLE)
    _put(root / UNIT, (CHECKOUT / "systemd/appliance.service").read_bytes())
    _put(root / SETTINGS, (CHECKOUT / "systemd/appliance.toml").read_bytes())
    _put(root / DOC / "copyright", _copyright().encode())
    news = (CHECKOUT / "CHANGELOG.md").read_bytes()
    _put(root / DOC / "NEWS.gz", gzip.compress(news, mtime=0))
    _put(root / DOC / "changelog.gz", gzip.compress(_changelog(target).encode(), mtime=0))
    commands = root / "usr/bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).symlink_to(f"/opt/appliance/bin/{name}")


def _copyright() -> str:
    """Our licence, in Debian's machine-readable form."""
    _, holders, text = (CHECKOUT / "LICENSE").read_text().split("\n\n", 2)
    return _fill(
        "copyright",
        holders=holders.removeprefix("Copyright (c) "),
        text="\n".join(f" {line or '.'}" for line in text.splitlines()),
    )


def _changelog(target: Target) -> str:
    return _fill(
        "changelog",
        version=debian_version(target.version),
        maintainer=MAINTAINER,
        date=email.utils.formatdate(target.epoch),
    )


def _fill(template: str, **values: object) -> str:
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def _put_control(target: Target, root: Path) -> None:
    files = [*find_files(root)]
    filled = _fill(
        "control",
        version=debian_version(target.version),
        architecture=ARCHITECTURES[target.machine],
        maintainer=MAINTAINER,
        num_kib=sum(path.stat().st_size for path in files) // 1024,
        glibc=GLIBC,
        python=PYTHONS[0],
        next_python=_next_minor(PYTHONS[-1]),
    )
    digests = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(root)}\n"
        for path in files
        if path != root / SETTINGS
    ]
    control = root / "DEBIAN"
    _put(control / "control", filled.encode())
    _put(control / "conffiles", f"/{SETTINGS}\n".encode())
    _put(control / "md5sums", "".join(digests).encode())
    # Where python3 becomes another one, the environment is made anew.
    _put(control / "triggers", b"interest-noawait /usr/bin/python3\n")
    for script in sorted((TEMPLATES / "scripts").iterdir()):
        _put(control / script.name, script.read_bytes(), mode=0o755)


def _next_minor(python: str) -> str:
    major, minor = python.split(".")
    return f"{major}.{int(minor) + 1}"


def _put(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _make_plain(root: Path, epoch: int) -> None:
    """Modes and dates that no umask and no clock decides."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            is_executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if is_executable else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
