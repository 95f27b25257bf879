"""A model in files outside the models directory, and whether it can be used here.

Knows no program that put it there, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.errors import BadModelFile
from appliance.store.servable import read_servable_header
from appliance.store.split import files_of

_TEMPLATE = "tokenizer.chat_template"
# Of an encoder of pictures, as Ollama's own converter puts it into the model's file.
_VISION_TENSORS = ("v.", "mm.")


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    path: Path
    name: str  # that it gets here
    sha256: str | None = None  # that its program keeps it by


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """`problem` and `remarks` are sentences."""

    name: str  # as its program calls it
    origin: str  # that its folder's record has: `org/repo`, `ollama.com/library/NAME`, a path
    files: tuple[FoundFile, ...]  # the first is the one that is served
    is_one_of_several: bool = False  # quantizations of one model, in one folder
    problem: str = ""  # why it cannot be used here
    remarks: tuple[str, ...] = ()  # on what is not taken over
    # what its program tells the model beside the request, by Ollama's names
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Any] = ()
    has_go_template: bool = False

    @property
    def num_bytes(self) -> int:
        return sum(file.path.stat().st_size for file in self.files)

    def is_called(self, word: str) -> bool:
        """By its own name, or by where it is from."""
        names = (self.name, self.origin, self.origin.rpartition("/")[2])
        return word.lower().removesuffix(":latest") in (name.lower() for name in names)


def files_from(first: Path) -> tuple[FoundFile, ...]:
    """Of the model whose file, or first part, `first` is."""
    return tuple(FoundFile(path=path, name=path.name) for path in files_of(first))


def inspected(model: FoundModel) -> FoundModel:
    """With what its header says against it. Reads no weights."""
    if model.problem:
        return model
    first = model.files[0].path
    try:
        header = read_servable_header(first)
    except BadModelFile as error:
        return replace(model, problem=error.message)
    if any(tensor.name.startswith(_VISION_TENSORS) for tensor in header.tensors):
        return replace(
            model,
            problem="its file holds the encoder of pictures too, which only Ollama loads like "
            "this. Pull the model from a hub instead.",
        )
    if model.has_go_template and _TEMPLATE not in header.metadata:
        remark = (
            "its chat template is written for Ollama, in Go, and its file has none: without "
            "--chat-template it only continues text."
        )
        return replace(model, remarks=(*model.remarks, remark))
    return model
