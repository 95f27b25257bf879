"""Whether a file can draft for another. Prints why not.

Run: python -m tests.llama.draft_refusal TARGET.gguf DRAFT.gguf
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.errors import LoadFailed
from appliance.llama.draft import load_draft
from appliance.llama.model import Model


def main(argv: list[str]) -> None:
    target, draft = map(Path, argv)
    try:
        load_draft(
            draft, Model(target, use_extra_bufts=False), use_extra_bufts=False, use_mmap=True
        )
    except LoadFailed as error:
        print(error.message)
    else:
        print("it can")


if __name__ == "__main__":
    main(sys.argv[1:])
