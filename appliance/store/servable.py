"""Which files on disk can be served: whole language models, in one file or several.

Knows no names of models and no hub.
"""

from __future__ import annotations

import re
from pathlib import Path

from appliance.errors import BadModelFile
from appliance.store.gguf_header import GgufHeader
from appliance.store.split import read_model_header, without_other_parts
from appliance.store.tensors.checks import check_tensors
from appliance.store.vocabulary.checks import check_vocabulary_keys, check_vocabulary_tokens

_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)  # whose header does not always say what it is
# What convert can say more of than that there is no config.json.
_EXPLAINED = ("adapter_config.json", "snapshots", "*.safetensors", "*/config.json")


def read_servable_header(path: Path) -> GgufHeader:
    """The header of one whole language model: of the file at `path`, or of it and the
    other parts of which it is the first.

    Raises `BadModelFile` for a damaged file, a part whose others are missing, an adapter,
    a projector, or a vocabulary or tensors that llama.cpp would not survive.
    """
    header = read_model_header(path)
    check_servable(header)
    check_vocabulary_tokens(header)
    return header


def check_servable(header: GgufHeader) -> None:
    """As far as can be told from the header alone, without its arrays.

    Raises `BadModelFile` for an adapter, a projector, or a vocabulary or tensors that
    cannot be used.
    """
    kind = header.text("general.type", "model")
    if kind != "model":
        raise BadModelFile(
            f"{header.path} is not a model (its type is {kind!r}). Give the model's own file."
        )
    check_vocabulary_keys(header)
    check_tensors(header)


def is_projector(name: str) -> bool:
    """Whether a file of this name is the encoder of pictures that belongs to a model."""
    return _PROJECTOR.search(name) is not None


def gguf_files(folder: Path) -> tuple[Path, ...]:
    """Finished files only: what is being written has another
    name or begins with a dot. Of a model in parts, the first.
    """
    if not folder.is_dir() or folder.name.startswith("."):
        return ()
    files = (p for p in folder.glob("*.gguf") if p.is_file() and not p.name.startswith("."))
    return tuple(without_other_parts(sorted(files, key=lambda path: path.name)))


def only_model(folder: Path) -> Path | None:
    """The one model of a folder that is no checkpoint; None where convert can say what the
    folder is.

    Raises `BadModelFile`.
    """
    files = gguf_files(folder)
    if len(files) == 1:
        return files[0]
    if files:
        raise BadModelFile(
            f"{folder} contains {len(files)} GGUF files, such as {files[0].name}. Serve one of "
            f"them: appliance serve {files[0]}"
        )
    if any(next(folder.glob(pattern), None) is not None for pattern in _EXPLAINED):
        return None
    raise BadModelFile(
        f"{folder} is not a checkpoint: it has no config.json. Give a directory with "
        "config.json, safetensors and a tokenizer, or a .gguf file."
    )
