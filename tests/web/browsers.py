"""Which browser shows the page here, and how it is started. Knows no page."""

from __future__ import annotations

import shutil


def chromium() -> str | None:
    """Debian's, or whatever has one of these names."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def options() -> list[str]:
    """In containers everybody is root, and /dev/shm is small."""
    return ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
