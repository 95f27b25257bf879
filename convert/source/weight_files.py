"""Which safetensors files of a folder hold its model. Opens none of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convert.config import read_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.source.descriptions import INDEX_FILE
from convert.source.folder import find_other_content

SINGLE_FILE = "model.safetensors"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
# Mistral's own layout, with other names of tensors; LoRA adapters
_OTHER_LAYOUTS = ("consolidated", "adapter_")


@dataclass(frozen=True)
class WeightFiles:
    """The files that together hold a model."""

    names: Sequence[str]
    # which file has the last word on a tensor, by the tensor's name; empty without an index
    places: Mapping[str, str] = field(default_factory=dict)


def find_weight_files(directory: Path) -> WeightFiles:
    """Raises `MissingFile`, `DamagedCheckpoint` or `UnsupportedModel` with the reason."""
    # where both are there, transformers takes this one too
    if (directory / SINGLE_FILE).exists():
        return WeightFiles([SINGLE_FILE])
    indices = sorted(path.name for path in directory.glob("*.safetensors.index.json"))
    if INDEX_FILE in indices or len(indices) == 1:
        return _indexed(directory / (INDEX_FILE if INDEX_FILE in indices else indices[0]))
    names = sorted(
        path.name
        for path in directory.glob("*.safetensors")
        if not path.name.startswith((".", *_OTHER_LAYOUTS))
    )
    shards = [match for match in map(_SHARD.fullmatch, names) if match]
    if shards and len(shards) == len(names) and len({(m[1], m[3]) for m in shards}) == 1:
        return WeightFiles(_whole_set(directory, shards[0], names))
    if len(names) == 1:
        return WeightFiles(names)
    if names:
        raise UnsupportedModel(
            f"{directory} contains several safetensors files ({', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''}), but no {INDEX_FILE} that says which of them "
            "make up the model. Leave only the files of one model in the folder."
        )
    if any(directory.glob("pytorch_model*.bin")):
        raise UnsupportedModel(
            f"{directory} stores its weights as pickle files (pytorch_model*.bin). "
            "These can run code when they are loaded, so they are never opened. Use a "
            "safetensors version of this model."
        )
    other = find_other_content(directory)
    if other is not None:
        raise other
    raise MissingFile(f"{directory} contains neither {SINGLE_FILE} nor {INDEX_FILE}.")


def _indexed(path: Path) -> WeightFiles:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DamagedCheckpoint(f"{path} has no weight_map.")
    for shard in weight_map.values():
        is_plain = isinstance(shard, str) and Path(shard).name == shard and "\0" not in shard
        if not is_plain or not shard.endswith(".safetensors"):
            raise DamagedCheckpoint(
                f"{path} names the shard {shard!r}, which is not the name of a "
                "safetensors file in the same folder."
            )
    return WeightFiles(sorted(set(weight_map.values())), weight_map)


def _whole_set(directory: Path, shard: re.Match[str], names: Sequence[str]) -> Sequence[str]:
    """Every shard of the set that `shard` belongs to, of which `names` are there."""
    count = int(shard[3])
    for index in range(1, count + 1):
        name = f"{shard[1]}-{index:05}-of-{shard[3]}.safetensors"
        if name not in names:
            raise MissingFile(
                f"{directory / name} is missing: {len(names)} of {count} files are there. "
                "Download it again."
            )
    return names
