"""The list of dependencies: whole, current, and each only where it is wanted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

from release.dependencies import find_wanted
from release.target import MACHINES, PYTHONS, read_toml


def read_wanted(python: str, machine: str) -> Iterator[tuple[str, str]]:
    for line in find_wanted(python, machine):
        name, _, version = line.split()[0].partition("==")
        yield name, version


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_gets_one_version_of_all_that_the_project_wants(
    python: str, machine: str
) -> None:
    found = list(read_wanted(python, machine))
    versions = dict(found)
    assert len(found) == len(versions)
    for text in read_toml("pyproject.toml")["project"]["dependencies"]:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"python_version": python}):
            continue
        name = wanted.name.partition("[")[0]
        if name != "llama-cpp-python":  # built by us
            assert wanted.specifier.contains(versions[name]), "make release/dependencies.txt again"


def test_what_other_systems_need_is_left_out() -> None:
    assert "tomli" in dict(read_wanted("3.10", "x86_64"))
    newest = dict(read_wanted("3.13", "aarch64"))
    assert {"tomli", "colorama", "llama-cpp-python"} & newest.keys() == set()
    assert {"uvloop", "hf-xet"} <= newest.keys()


def test_pip_is_given_versions_and_sums_and_nothing_to_judge() -> None:
    lines = list(find_wanted("3.10", "x86_64"))
    assert [line for line in lines if ";" in line or " --hash=sha256:" not in line] == []
    (numpy,) = (line for line in lines if line.startswith("numpy=="))
    assert numpy.startswith("numpy==2.2.6 --hash=sha256:")  # the last one for 3.10
