"""Which GGUFs of a directory hold the same model, and which of them is the most exact.

Knows no weights.

llama.cpp reads their metadata, in a child (`native/describe_child`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from gguf import LlamaFileType

from convert.child import ask
from convert.errors import BadInput, MissingFile
from convert.gguf.parts import is_other_part

REFERENCE_TYPES = ("F32", "BF16", "F16", "Q8_0")  # the most exact first
_GUESSED = int(LlamaFileType.GUESSED)  # a bit that llama.cpp sets where the file does not say


@dataclass(frozen=True)
class Identity:
    """What the files of one model have in common, according to their metadata."""

    architecture: str
    name: str
    sizes: tuple[str, ...]
    num_vocab: int


@dataclass(frozen=True)
class ModelFile:
    """A GGUF that llama.cpp loads."""

    path: Path
    identity: Identity
    type: str  # such as Q4_K_M; empty where the file does not say


class _Described(msgspec.Struct, kw_only=True):
    architecture: str
    name: str
    sizes: list[str]
    num_vocab: int
    file_type: str


def find_files(
    directory: Path, model: Path | None, on_note: Callable[[str], None]
) -> list[ModelFile]:
    """The files of `model` in `directory`, and `model` itself; without it, of the only
    model that is there.

    Files that hold no model, or another one, are left out, with a note. Raises
    `BadInput` if there is no file or, without `model`, more than one model.
    """
    if not directory.is_dir():
        raise MissingFile(f"The directory {directory} does not exist.")
    paths = {path.resolve(): path for path in sorted(directory.glob("*.gguf")) if path.is_file()}
    if model is not None:
        paths[model.resolve()] = model
    files = describe_files(list(paths.values()), on_note)
    if not files:
        raise BadInput(
            f"{directory} contains no model: llama.cpp cannot load any .gguf file in it."
        )
    wanted = _wanted_identity(directory, model, files)
    for file in files:
        if file.identity != wanted:
            on_note(
                f"skipped {file.path.name}: it is a different model "
                f"({file.identity.name or 'without a name'})"
            )
    return [file for file in files if file.identity == wanted]


def describe_files(paths: Sequence[Path], on_note: Callable[[str], None]) -> list[ModelFile]:
    """Those of `paths` that llama.cpp loads as a model, of one in parts the first; each of
    the others gives a note.
    """
    names = {path.name for path in paths}
    whole = [path for path in paths if not is_other_part(path, names)]
    answers = ask(
        "convert.native.describe_child", {"paths": [str(path.absolute()) for path in whole]}
    )
    files = []
    for path, answer in zip(whole, msgspec.convert(answers, list[_Described | None]), strict=True):
        if answer is None:
            on_note(f"skipped {path.name}: llama.cpp cannot load it as a model")
        else:
            identity = Identity(
                answer.architecture, answer.name, tuple(answer.sizes), answer.num_vocab
            )
            files.append(ModelFile(path, identity, _type_name(answer.file_type)))
    return files


def most_exact(files: Sequence[ModelFile]) -> ModelFile | None:
    """The file to compare the others with: the first of `REFERENCE_TYPES` that is
    there, None if none is.
    """
    for type_name in REFERENCE_TYPES:
        of_type = [file for file in files if file.type == type_name]
        if of_type:
            return min(of_type, key=lambda file: file.path.name)
    return None


def _wanted_identity(directory: Path, model: Path | None, files: Sequence[ModelFile]) -> Identity:
    if model is not None:
        found = next((file for file in files if file.path == model), None)
        if found is None:
            raise BadInput(f"llama.cpp cannot load {model} as a model.")
        return found.identity
    identities = {file.identity: file.path.name for file in files}
    if len(identities) > 1:
        examples = ", ".join(sorted(identities.values()))
        raise BadInput(
            f"{directory} contains {len(identities)} different models, such as {examples}. Pass "
            "a file of the one to measure as MODEL.gguf."
        )
    return files[0].identity


def _type_name(file_type: str) -> str:
    """`general.file_type` as everybody writes it."""
    if not file_type.isdecimal():
        return ""
    try:
        return (
            LlamaFileType(int(file_type) & ~_GUESSED)
            .name.removeprefix("MOSTLY_")
            .removeprefix("ALL_")
        )
    except ValueError:
        return ""
