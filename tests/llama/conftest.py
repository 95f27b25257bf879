"""What several tests of this folder share: the embedded draft model, converted once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

DRAFT = ROOT / "models" / "embedded" / "novels-draft"


@pytest.fixture(scope="session")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("draft")
    command = [sys.executable, "-m", "convert", str(DRAFT), "--out", str(out), "--types", "F32"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out / "novels-draft-F32.gguf"
