"""What the commands print: lines and JSON on standard output, notes on standard error.

Knows no command.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def print_line(line: str) -> None:
    print(line, flush=True)


def print_json(**record: Any) -> None:
    print_line(json.dumps(record))


def print_note(note: str) -> None:
    """Something worth knowing that is not a result."""
    sys.stderr.write(f"appliance-convert: note: {note}\n")
