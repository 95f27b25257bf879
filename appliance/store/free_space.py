"""Whether there is room for what is to be written. Knows no model."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.errors import SetupError


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises `SetupError` where the disk has less free; `what` begins the sentence:
    "NAME takes".
    """
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise SetupError(
            f"{what} {needed_bytes / 1e6:.1f} MB more, but {folder} has only "
            f"{free_bytes / 1e6:.1f} MB free. Free some space, choose a smaller quantization, or "
            "use another --models-dir."
        )
