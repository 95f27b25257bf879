"""The Debian package: what it holds, what it needs, and that the same bundle gives the same
bytes. What its scripts do is tried by tests/release/deb_in_chroot.sh.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from release.deb import package
from release.target import Target
from tests.release.made_wheels import make_bundle

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not here")


def ask(option: str, deb: Path, *arguments: str) -> str:
    command = ["dpkg-deb", option, str(deb), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def target(tmp_path: Path) -> Target:
    target = make_bundle(tmp_path / "dist")
    installer = target.folder / "install.sh"
    installer.write_text("#!/bin/sh\n")
    installer.chmod(0o700)
    return target


@pytest.fixture
def deb(target: Target) -> Path:
    package.make(target)
    return target.out / "appliance_0.1.0_amd64.deb"


def test_it_holds_the_bundle_the_unit_and_the_commands(deb: Path) -> None:
    rows = [line.split(None, 5) for line in ask("--contents", deb).splitlines()]
    files = {row[5]: (row[0], row[1]) for row in rows if not row[5].endswith("/")}
    program, plain, link = "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"
    wheels = {
        f"./usr/lib/appliance/wheels/{name}-py3-none-any.whl": (plain, "root/root")
        for name in ("appliance-0.1.0", "llama_cpp_python-1.2.3", "needed-2.0")
    }
    assert files == wheels | {
        "./etc/appliance/appliance.toml": (plain, "root/root"),
        "./usr/bin/appliance -> /opt/appliance/bin/appliance": (link, "root/root"),
        "./usr/bin/appliance-convert -> /opt/appliance/bin/appliance-convert": (link, "root/root"),
        "./usr/lib/appliance/install.sh": (program, "root/root"),
        "./usr/lib/systemd/system/appliance.service": (plain, "root/root"),
        "./usr/share/doc/appliance/NEWS.gz": (plain, "root/root"),
        "./usr/share/doc/appliance/changelog.gz": (plain, "root/root"),
        "./usr/share/doc/appliance/copyright": (plain, "root/root"),
    }


def test_it_says_what_it_is_and_needs(deb: Path) -> None:
    assert ask("--field", deb, "Version", "Architecture", "Depends").splitlines() == [
        "Version: 0.1.0",
        "Architecture: amd64",
        "Depends: adduser, libc6 (>= 2.34), python3 (>= 3.10), python3 (<< 3.14), python3-venv",
    ]


def test_its_settings_are_kept_as_people_change_them(deb: Path, tmp_path: Path) -> None:
    ask("--control", deb, str(tmp_path / "control"))
    assert (tmp_path / "control/conffiles").read_text() == "/etc/appliance/appliance.toml\n"


def test_its_digests_are_of_all_else(deb: Path, tmp_path: Path) -> None:
    ask("--raw-extract", deb, str(tmp_path / "root"))
    digests = (tmp_path / "root/DEBIAN/md5sums").read_text().splitlines()
    assert len(digests) == 8
    subprocess.run(
        ["md5sum", "--check", "--quiet", "DEBIAN/md5sums"], cwd=tmp_path / "root", check=True
    )


def test_its_copyright_has_our_licence_in_debians_form(deb: Path, tmp_path: Path) -> None:
    ask("--raw-extract", deb, str(tmp_path / "root"))
    text = (tmp_path / "root/usr/share/doc/appliance/copyright").read_text()
    assert "\nCopyright: 2026 The appliance authors\nLicense: Expat\n Permission is hereby" in text
    body = text.partition("License: Expat\n")[2]
    assert all(line.startswith(" ") for line in body.splitlines())


def test_the_same_bundle_gives_the_same_bytes(target: Target, deb: Path) -> None:
    before = deb.read_bytes()
    deb.unlink()
    for path in target.folder.rglob("*.whl"):
        path.touch()
        path.chmod(0o600)
    package.make(target)
    assert deb.read_bytes() == before


def test_its_scripts_are_programs(deb: Path, tmp_path: Path) -> None:
    ask("--control", deb, str(tmp_path))
    scripts = {path.name: path for path in (package.TEMPLATES / "scripts").iterdir()}
    assert set(scripts) == {"preinst", "postinst", "prerm", "postrm"}
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in scripts} == {0o755}


@pytest.mark.parametrize(
    ("version", "debian"),
    [("1.0", "1.0"), ("1.0rc1", "1.0~rc1"), ("1.0.dev3", "1.0~dev3"), ("1.0b2", "1.0~b2")],
)
def test_what_comes_before_a_version_is_sorted_before_it(version: str, debian: str) -> None:
    assert package.debian_version(version) == debian
    if version != "1.0":
        command = ["dpkg", "--compare-versions", debian, "lt", "1.0"]
        assert subprocess.run(command, check=False).returncode == 0


def test_scripts_and_unit_name_the_same_places() -> None:
    unit = (package.CHECKOUT / "systemd/appliance.service").read_text()
    match = re.search(r"^ExecStart=(\S+)/lib/appliance/bin/appliance ", unit, re.MULTILINE)
    assert match is not None
    postinst = (package.TEMPLATES / "scripts/postinst").read_text()
    assert f"--prefix {match[1]} " in postinst
