"""Compares the catalog of hub models with the hub: `python -m appliance.cli.catalog.check`.

For who maintains the catalog. Knows no comparison, and changes nothing.
"""

from __future__ import annotations

import sys

from appliance.errors import ApplianceError
from appliance.store.known.check import disagreements
from appliance.store.known.hub_models import load_hub_models


def main(names: list[str]) -> int:
    """Prints a line for each model, of those named or of all; 1 where anything disagrees."""
    found = False
    for model in load_hub_models():
        if names and model.name not in names:
            continue
        try:
            complaints = list(disagreements(model))
        except ApplianceError as error:
            complaints = [error.message]
        found = found or bool(complaints)
        print(f"{model.name}: {' '.join(complaints) or 'as the hub has it'}")
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
