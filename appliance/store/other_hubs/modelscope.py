"""ModelScope's interface: where it lists the files of a repository, and where they are.

Asks nobody: `store/hub/client.py` does. It lists the SHA-256 of every file, and the commit that
each was last changed by, but none of the repository as a whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

# Read once, as huggingface_hub reads HF_ENDPOINT. Set: models come from there.
ENDPOINT = os.environ.get("MODELSCOPE_ENDPOINT", "").rstrip("/")
BRANCH = "master"  # what ModelScope calls the newest state


@dataclass(frozen=True)
class ListedFile:
    """A file as ModelScope lists it; nothing of it is checked yet."""

    name: object
    num_bytes: object
    sha256: object


def list_url(repo: str, revision: str | None) -> str:
    branch = quote(revision or BRANCH, safe="")
    return f"{ENDPOINT}/api/v1/models/{repo}/repo/files?Revision={branch}&Recursive=true"


def file_url(repo: str, name: str, revision: str | None) -> str:
    branch = quote(revision or BRANCH, safe="")
    return f"{ENDPOINT}/models/{repo}/resolve/{branch}/{quote(name)}"


def read_list(answer: Mapping[str, Any]) -> list[ListedFile]:
    """Raises `KeyError` or `TypeError` for what is no list of files."""
    rows = answer["Data"]["Files"]
    return [
        ListedFile(row["Path"], row["Size"], row.get("Sha256"))
        for row in rows
        if row["Type"] == "blob"
    ]


def state_of(files: Sequence[ListedFile]) -> str:
    """Stands for the commit that ModelScope does not name: the same for the same files."""
    lines = sorted(f"{file.name} {file.num_bytes} {file.sha256}\n" for file in files)
    return hashlib.sha1("".join(lines).encode(), usedforsecurity=False).hexdigest()
