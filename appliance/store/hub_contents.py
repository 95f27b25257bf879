"""What of a repository's files is a model to us:
GGUF files to choose from, or a checkpoint.

Reads none of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.errors import BadModelFile
from appliance.store.hub.records import HubFile, Repository
from appliance.store.servable import is_projector
from appliance.store.split import sets_of_names
from convert.source.descriptions import INDEX_FILE, describes

SINGLE_FILE = "model.safetensors"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
# Mistral's own layout, with other names of tensors; LoRA adapters
_OTHER_LAYOUTS = ("consolidated", "adapter_")
_MAX_DESCRIPTION_BYTES = 128 << 20  # the largest tokenizers take some 30 MiB


@dataclass(frozen=True)
class HubGguf:
    """A model in GGUF, in one file or several."""

    name: str  # its path in the repository, as if it were one file
    files: tuple[HubFile, ...]  # the first is the one that is served

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True)
class GgufFiles:
    """The GGUF files of a repository."""

    models: tuple[HubGguf, ...]
    missing: tuple[str, ...] = ()  # parts of others, which therefore cannot be served


def find_gguf_files(repository: Repository) -> GgufFiles:
    files = {
        file.name: file
        for file in repository.files
        if file.name.lower().endswith(".gguf") and not is_projector(file.name.rpartition("/")[2])
    }
    models, missing = sets_of_names(files)
    return GgufFiles(
        tuple(
            HubGguf(name, tuple(files[each] for each in names)) for name, names in models.items()
        ),
        tuple(missing),
    )


def find_descriptions(repository: Repository) -> tuple[HubFile, ...]:
    """The files of a checkpoint that `convert` reads beside the weights. Pickles, programs and
    everything else are never fetched.

    Raises `BadModelFile` where this cannot be one.
    """
    found = [file for file in repository.files if describes(file.name)]
    too_large = [file for file in found if file.num_bytes > _MAX_DESCRIPTION_BYTES]
    if too_large:
        raise BadModelFile(
            f"{repository.id} cannot be used: its {too_large[0].name} has {too_large[0].num_bytes} "
            f"bytes, more than the {_MAX_DESCRIPTION_BYTES} that are allowed. Choose another "
            "repository."
        )
    names = {file.name for file in found}
    if "config.json" not in names or (INDEX_FILE not in names and not _unindexed(repository)):
        raise BadModelFile(_nothing_to_serve(repository))
    return tuple(found)


def find_weights(repository: Repository, index: bytes | None) -> tuple[HubFile, ...]:
    """The safetensors files of a checkpoint;
    `index` is the content of its index, where it has one.

    Raises `BadModelFile` where the index is none, or names what the repository does not
    have.
    """
    single = repository.find(SINGLE_FILE)
    if single is not None:  # where both are there, convert takes this one, as transformers does
        return (single,)
    if index is None:
        return tuple(file for file in repository.files if file.name in _unindexed(repository))
    shards = [(name, repository.find(name)) for name in _shard_names(repository, index)]
    missing = [name for name, file in shards if file is None]
    if missing:
        raise BadModelFile(
            f"{repository.id} is incomplete: it lacks {missing[0]}, which its {INDEX_FILE} names. "
            "Choose another repository."
        )
    return tuple(file for _, file in shards if file is not None)


def _unindexed(repository: Repository) -> Sequence[str]:
    """The safetensors files that make up a checkpoint without an index, as convert finds
    them: one, or a whole set of shards; else none.
    """
    if repository.find(SINGLE_FILE) is not None:
        return (SINGLE_FILE,)
    names = sorted(
        file.name
        for file in repository.files
        if file.name.endswith(".safetensors")
        and "/" not in file.name
        and not file.name.startswith(_OTHER_LAYOUTS)
    )
    if len(names) < 2:
        return names
    shards = [match for match in map(_SHARD.fullmatch, names) if match]
    is_set = len(shards) == len(names) and len({(m[1], m[3]) for m in shards}) == 1
    return names if is_set and len(names) == int(shards[0][3]) else ()


def _shard_names(repository: Repository, index: bytes) -> Sequence[str]:
    try:
        names = set(json.loads(index)["weight_map"].values())
        if not names or not all(re.fullmatch(r"[^/]+\.safetensors", name) for name in names):
            raise ValueError("its weight_map names files that are not safetensors beside it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadModelFile(
            f"{INDEX_FILE} of {repository.id} is not a valid index: {error}. Choose another "
            "repository."
        ) from error
    return sorted(names)


def _nothing_to_serve(repository: Repository) -> str:
    pickled = any(file.name.endswith((".bin", ".pt", ".pth", ".ckpt")) for file in repository.files)
    why = (
        " Its weights are pickled: loading them would run code, so they are never downloaded."
        if pickled
        else ""
    )
    if repository.num_left_out:
        why += (
            f" {repository.num_left_out} files are ignored because they have no safe name or no "
            "checksum."
        )
    return (
        f"{repository.id} has neither GGUF files nor a checkpoint (config.json and safetensors)."
        f"{why} Choose a repository of the same model that does."
    )
