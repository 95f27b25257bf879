"""The file of a model that a benchmark is given: by its path, or by its name in the
catalog where it comes as a package. Converts and downloads nothing.

    python -m bench.model_file smollm2-135m   # prints the path
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.store.catalog import load_catalog


def model_file(argument: str) -> Path:
    """Raises `SystemExit` with the way to get it where it is not installed."""
    entry = load_catalog().find(argument)
    if entry is None or entry.packaged is None or Path(argument).exists():
        return Path(argument)
    file = entry.packaged.find()
    if file is None:
        raise SystemExit(f"{argument} is not installed. Run '{entry.packaged.way_to_get}'.")
    return file


if __name__ == "__main__":
    print(model_file(sys.argv[1]))
