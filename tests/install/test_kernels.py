"""The kernels of our own as install.sh sees them: built with us, left out, said, removed."""

from __future__ import annotations

import pytest

from tests.install.machine import Machine, pip_verbs

THERE = "ok    Kernels of our own are there"
LEFT_OUT = "note  Without kernels of our own: they were left out on request"


@pytest.mark.parametrize("how", [(), ("--dev",), ("--prefix", "there")])
def test_they_are_built_with_us_and_it_says_so(machine: Machine, how: tuple[str, ...]) -> None:
    done = machine.install(*how)
    assert done.returncode == 0, done.stderr
    assert THERE in done.stdout


@pytest.mark.parametrize("how", [(), ("--dev",)])
def test_without_them_it_says_why(machine: Machine, how: tuple[str, ...]) -> None:
    done = machine.install("--no-kernels", *how)
    assert done.returncode == 0, done.stderr
    assert LEFT_OUT in done.stdout
    assert THERE not in done.stdout


def test_they_can_be_had_or_left_out_later(machine: Machine) -> None:
    machine.install("--no-kernels")
    assert THERE in machine.install().stdout
    assert LEFT_OUT in machine.install("--no-kernels").stdout
    assert "up to date" in machine.install("--no-kernels").stdout


@pytest.mark.parametrize("how", [(), ("--dev",)])
def test_another_source_of_theirs_installs_again(machine: Machine, how: tuple[str, ...]) -> None:
    machine.install(*how)
    (machine.checkout / "kernels" / "file").write_text("changed")
    machine.take_calls()
    machine.install(*how)
    assert "install" in pip_verbs(machine.take_calls())


def test_the_plan_names_them(machine: Machine) -> None:
    assert machine.plan()["kernels"] == "will be compiled (a minute)"
    assert machine.plan("--no-kernels")["kernels"] == "left out"
    machine.become_a_mac()
    assert machine.plan()["kernels"] == "none for this system"


def test_prepared_wheels_have_them_or_not(machine: Machine) -> None:
    refused = machine.install("--offline", "wheels", "--no-kernels")
    assert "--offline and --prebuilt install wheels as they are" in refused.stderr


def test_uninstalling_takes_them_out_of_the_checkout(machine: Machine) -> None:
    machine.install("--dev")
    native = machine.checkout / "appliance" / "llama" / "native"
    assert native.exists()
    machine.install("--uninstall")
    assert not native.exists()
