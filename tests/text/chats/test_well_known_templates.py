"""Our well-known templates render as llama.cpp's of the same names."""

from __future__ import annotations

import subprocess
import sys


def test_they_render_as_in_llama_cpp() -> None:
    command = [sys.executable, "-m", "tests.text.chats.well_known_renderings"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == "28 compared\n"
