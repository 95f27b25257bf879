"""Where playwright is not installed, tests of the page are skipped and say why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_RUN = """
import sys
sys.modules["playwright"] = None
import pytest
sys.exit(pytest.main(["-q", "-rs", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_they_are_skipped_and_others_are_not() -> None:
    here = Path(__file__).parent
    names = [str(here / name) for name in ("test_chat.py", "test_vendored.py")]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *names],
        cwd=here.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "needs playwright" in done.stdout
    assert "1 skipped" in done.stdout
    assert " passed" in done.stdout
