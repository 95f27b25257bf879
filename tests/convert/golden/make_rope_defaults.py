"""Writes rope_defaults.json: what transformers' classes take where a config.json says nothing
of the rotation.

Run with transformers installed: python -m tests.convert.golden.make_rope_defaults
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import CONFIG_MAPPING

from convert.architectures import FAMILIES

RECORD = Path(__file__).parent / "rope_defaults.json"


def main() -> None:
    types = sorted({name for family in FAMILIES for name in family.model_types})
    found = {}
    for model_type in types:
        if model_type in CONFIG_MAPPING:
            values = CONFIG_MAPPING[model_type].from_dict({}).to_dict()
            if values.get("rope_parameters"):
                found[model_type] = values["rope_parameters"]
    RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
