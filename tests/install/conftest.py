"""The fixture `machine`, and why tests
of install.sh are skipped where they cannot run.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.install.machine import HIDDEN_PROGRAMS, Machine


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the system's programs, but those that are to be faked or absent."""
    folder = tmp_path_factory.mktemp("programs")
    for source in (Path("/usr/bin"), Path("/bin")):
        for program in source.iterdir():
            link = folder / program.name
            if program.name not in HIDDEN_PROGRAMS and not link.is_symlink():
                link.symlink_to(program)
    return folder


@pytest.fixture
def machine(tmp_path: Path, programs: Path) -> Machine:
    if sys.platform != "linux" or shutil.which("bash") is None:
        pytest.skip("these tests of install.sh need Linux and bash")
    return Machine(tmp_path, programs)
