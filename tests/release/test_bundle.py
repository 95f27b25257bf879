"""The bundle: what is in it, and that the same files give the same archive."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from release import bundle
from release.__main__ import STEPS, main
from release.target import NotMade, Target
from tests.release.conftest import make_target

BUNDLING = ("installer", "manifest", "sums", "archive")


def make_bundle(target: Target) -> bytes:
    for step in STEPS:
        if step.name in BUNDLING:
            step.run(target)
    return target.archive.read_bytes()


def test_the_same_files_give_the_same_archive(target: Target, tmp_path: Path) -> None:
    first = make_bundle(target)
    again = make_target(tmp_path / "elsewhere")
    again.wheels.mkdir(parents=True)
    for wheel in sorted(target.wheels.glob("*.whl"), reverse=True):
        copied = Path(shutil.copy(wheel, again.wheels))
        copied.chmod(0o600)
        os.utime(copied, (0, 0))
    assert make_bundle(again) == first


def test_it_holds_the_installer_and_the_sums_of_all(target: Target, tmp_path: Path) -> None:
    make_bundle(target)
    with tarfile.open(target.archive) as archive:
        archive.extractall(tmp_path, filter="data")
        members = archive.getmembers()
    assert {member.mtime for member in members} == {target.epoch}
    assert {(member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, "", 0o644),
        (0, 0, "", 0o755),
    }
    unpacked = tmp_path / target.name
    assert (unpacked / "install.sh").stat().st_mode & 0o111
    assert (unpacked / "install" / "offline.sh").exists()
    assert (unpacked / "models" / "catalog.toml").exists()
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", bundle.SUMS], cwd=unpacked, check=False
    )
    assert checked.returncode == 0
    listed = {line.split("  ")[1] for line in (unpacked / bundle.SUMS).read_text().splitlines()}
    assert listed == {member.name.partition("/")[2] for member in members} - {bundle.SUMS}


def test_the_manifest_says_what_the_wheels_are_for(target: Target) -> None:
    bundle.write_manifest(target)
    said = (target.wheels / bundle.MANIFEST).read_text().splitlines()
    assert said[:5] == [
        "python 3.10 3.11 3.12 3.13",
        "system Linux",
        "machine x86_64",
        "libc glibc 2.34",
        "accelerator cpu",
    ]
    assert said[-1] == "own appliance-1.0-py3-none-any.whl"


def test_a_bundle_without_one_of_our_wheels_is_not_made(target: Target) -> None:
    next(target.wheels.glob("llama_cpp_python-*")).unlink()
    with pytest.raises(NotMade, match="should hold one wheel of llama_cpp_python: none"):
        bundle.write_manifest(target)


def test_an_unknown_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sums", "bake"])
    assert "no such step: bake" in capsys.readouterr().err


def test_the_sums_of_a_release_are_of_what_people_download(target: Target) -> None:
    for name in ("appliance_0.1.0_amd64.deb", "appliance.rb"):
        (target.out / name).write_text(name)
    for _ in range(2):  # its own is none of them, the second time either
        bundle.write_download_sums(target)
    sums = target.out / bundle.SUMS
    names = [line.split("  ")[1] for line in sums.read_text().splitlines()]
    assert names == ["appliance.rb", "appliance_0.1.0_amd64.deb"]
    checked = subprocess.run(["sha256sum", "--check", "--quiet", sums], cwd=target.out, check=False)
    assert checked.returncode == 0
