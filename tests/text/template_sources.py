"""Chat templates for tests: our own, and those of well-known models where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SHARED

OWN = Path(__file__).with_name("templates")


def source_of(name: str) -> str:
    for folder in (OWN, SHARED / "data" / "templates"):
        if (folder / name).exists():
            return (folder / name).read_text(encoding="utf-8")
    pytest.skip(f"needs {name} in ../shared/data/templates, which is not here")
