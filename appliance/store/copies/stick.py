"""A repository as a folder brought from another machine has it: a models directory.

Asks no hub: what the other machine recorded when it downloaded says what is there.
"""

from __future__ import annotations

from pathlib import Path

from appliance.store.hub.records import HubFile, Repository
from appliance.store.hub_contents import HubGguf
from appliance.store.hub_folder import read_record
from appliance.store.split import files_of, model_name

_SHA256_DIGITS = 64


def recorded_gguf(first: Path) -> tuple[Repository, HubGguf] | None:
    """The repository, and of it the model in GGUF whose first file `first` is.

    None where the folder's record does not name all of its files.
    """
    record = read_record(first.parent)
    if record is None:
        return None
    arrived = [record.files.get(path.name) for path in files_of(first)]
    known = [each for each in arrived if each is not None]
    if len(known) < len(arrived):
        return None
    files = tuple(
        HubFile(
            each.name,
            each.num_bytes,
            each.content_id if len(each.content_id) == _SHA256_DIGITS else None,
            each.content_id,
        )
        for each in known
    )
    return Repository(record.repo, known[0].commit, files), HubGguf(
        f"{model_name(first)}.gguf", files
    )
