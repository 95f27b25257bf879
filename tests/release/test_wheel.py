"""Wheels: the same files give the same bytes, and pip takes them."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from release import own_wheel
from release.wheel import Wheel, WheelFile
from tests.release.conftest import small_wheel


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    wheel = small_wheel("one")
    first = wheel.write(tmp_path / "a")
    read = Wheel.read(first)
    assert read == wheel
    backwards = replace(read, files=dict(reversed(read.files.items())))
    assert backwards.write(tmp_path / "b").read_bytes() == first.read_bytes()


def test_the_record_holds_every_file(tmp_path: Path) -> None:
    path = small_wheel("one").write(tmp_path)
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"ANSWER = 42\n").digest()).decode()
    with zipfile.ZipFile(path) as archive:
        record = archive.read("one-1.0.dist-info/RECORD").decode().splitlines()
        names = archive.namelist()
    assert record[0] == f"one/__init__.py,sha256={digest.rstrip('=')},12"
    assert [line.split(",")[0] for line in record] == names
    assert record[-1] == "one-1.0.dist-info/RECORD,,"


def test_pip_installs_a_wheel_of_another_tag(tmp_path: Path) -> None:
    tag = "py3-none-manylinux_2_5_x86_64.manylinux_2_5_aarch64"
    if not sys.platform.startswith("linux"):
        pytest.skip("the tag is one of Linux")
    path = small_wheel("one").retagged(tag).write(tmp_path)
    assert path.name == f"one-1.0-{tag}.whl"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--quiet"]
    subprocess.run([*command, "--target", str(tmp_path / "site"), str(path)], check=True)
    said = (tmp_path / "site" / "one-1.0.dist-info" / "WHEEL").read_text().splitlines()
    assert said[2:] == [
        "Root-Is-Purelib: false",
        "Tag: py3-none-manylinux_2_5_x86_64",
        "Tag: py3-none-manylinux_2_5_aarch64",
    ]


def test_programs_stay_programs(tmp_path: Path) -> None:
    wheel = small_wheel("one")
    files = wheel.files | {"one/run.sh": WheelFile(b"#!/bin/sh\n", executable=True)}
    path = replace(wheel, files=files).write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes["one/run.sh"] == 0o100755
    assert modes["one/__init__.py"] == 0o100644


def test_our_own_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    first = own_wheel.build(None).write(tmp_path / "a")
    again = own_wheel.build(None).write(tmp_path / "b")
    assert first.read_bytes() == again.read_bytes()
    assert "appliance/llama/native/not-built.txt" in Wheel.read(first).files
