"""Models that are split over several GGUF files, seen as one.

Knows no model and no hub. llama.cpp is given the first part and finds the others by
their names, `NAME-00001-of-00003.gguf` (`llama_split_path`); what it would refuse or
abort on is refused here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from appliance.errors import BadModelFile
from appliance.store.gguf_header import GgufHeader, Tensor, read_header

_NAME = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})\.gguf", re.IGNORECASE | re.DOTALL)
_MAX_PARTS = 1024  # far more than anybody makes
_SHOWN_PARTS = 3
_COUNT, _NUMBER, _NUM_TENSORS = "split.count", "split.no", "split.tensors.count"


@dataclass(frozen=True)
class PartName:
    """What the name of a file says: it is part `number` (from 1) of `count`."""

    prefix: str
    number: int
    count: int

    @property
    def names(self) -> list[str]:
        """Of all parts."""
        return [
            f"{self.prefix}-{number:05}-of-{self.count:05}.gguf"
            for number in range(1, self.count + 1)
        ]


def part_name(name: str) -> PartName | None:
    """None for a name that says nothing of parts, or of more than there can be."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    part = PartName(match[1], int(match[2]), int(match[3]))
    return part if 1 <= part.number <= part.count <= _MAX_PARTS else None


def model_name(path: Path) -> str:
    """What a model is called by its file, or by any of its parts."""
    part = part_name(path.name)
    return path.name.removesuffix(".gguf") if part is None else part.prefix


def first_part(path: Path) -> Path:
    """The file that stands for the model: `path`, or the first of the parts it is one of,
    if that is there.
    """
    part = part_name(path.name)
    if part is None or part.number == 1:
        return path
    first = path.with_name(part.names[0])
    return first if first.is_file() else path


def files_of(path: Path) -> list[Path]:
    """`path`, and the other parts that are there, if it is the first of several."""
    part = part_name(path.name)
    if part is None or part.number != 1 or part.count == 1:
        return [path]
    return [path, *filter(Path.is_file, map(path.with_name, part.names[1:]))]


def without_other_parts(paths: Iterable[Path]) -> list[Path]:
    """Of a model in parts only the first, where that is there."""
    return [path for path in paths if first_part(path) == path]


def read_model_header(path: Path) -> GgufHeader:
    """The header of the whole model that `path` is, or is the first part of.

    Raises `BadModelFile`: also where parts are missing, or do not belong together.
    """
    header = read_header(path)
    names = other_parts(header)
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise _missing(path, missing, len(names) + 1)
    return join_headers(header, [read_header(path.with_name(name)) for name in names])


def other_parts(header: GgufHeader) -> list[str]:
    """The names of the other parts of the model whose first part has `header`; none where
    it is a whole file, whatever its name.

    Raises `BadModelFile` for another part than the first, and for a name by which
    llama.cpp would not find them.
    """
    count = header.integer(_COUNT, 1)
    if count <= 1:
        return []
    number, part = header.integer(_NUMBER, 0) + 1, part_name(header.path.name)
    if part is None or (part.number, part.count) != (number, count):
        raise BadModelFile(
            f"{header.path} is part {number} of a model split into {count} files, but its name "
            "does not say so, and the others are found by their names. Rename it to "
            f"{model_name(header.path)}-{number:05}-of-{count:05}.gguf, and put the other parts "
            "beside it; or join them with llama.cpp's `llama-gguf-split --merge`."
        )
    if number != 1:
        raise _missing(header.path, part.names[:1], count)
    return part.names[1:]


def join_headers(first: GgufHeader, others: Sequence[GgufHeader]) -> GgufHeader:
    """The first part's description, with the tensors and bytes of all parts.

    Raises `BadModelFile` where they do not belong together.
    """
    tensors: dict[str, Tensor] = {tensor.name: tensor for tensor in first.tensors}
    for number, header in enumerate(others, 1):
        theirs = (header.integer(_NUMBER, -1), header.integer(_COUNT, 1))
        if theirs != (number, len(others) + 1):
            raise BadModelFile(
                f"{header.path} does not belong to {first.path.name}: it says that it is part "
                f"{theirs[0] + 1} of {theirs[1]}. Download it again."
            )
        twice = next((tensor.name for tensor in header.tensors if tensor.name in tensors), None)
        if twice is not None:
            raise BadModelFile(
                f"{header.path} does not belong to {first.path.name}: both contain the tensor "
                f"{twice}. Download them again."
            )
        tensors.update({tensor.name: tensor for tensor in header.tensors})
    expected = first.integer(_NUM_TENSORS, len(tensors))
    if others and expected != len(tensors):
        raise BadModelFile(
            f"{first.path} says that its parts have {expected} tensors, but they have "
            f"{len(tensors)}. Download them again."
        )
    return replace(
        first,
        tensors=tuple(tensors.values()),
        num_file_bytes=first.num_file_bytes + sum(header.num_file_bytes for header in others),
    )


def sets_of_names(names: Iterable[str]) -> tuple[Mapping[str, Sequence[str]], Sequence[str]]:
    """Files as models: by the name that each would have as one file, the names of its
    files; and names that are missing of some.
    """
    there = list(names)
    models: dict[str, Sequence[str]] = {}
    missing: list[str] = []
    for name in there:
        path = PurePath(name)
        part = part_name(path.name)
        if part is None or part.count == 1:
            models[name] = [name]
            continue
        wanted = [str(path.with_name(each)) for each in part.names]
        absent = [each for each in wanted if each not in there]
        if not absent:
            models[str(path.with_name(f"{part.prefix}.gguf"))] = wanted
        missing += absent
    return models, list(dict.fromkeys(missing))


def _missing(path: Path, names: Sequence[str], count: int) -> BadModelFile:
    shown = ", ".join(names[:_SHOWN_PARTS])
    more = f" and {len(names) - _SHOWN_PARTS} more" if len(names) > _SHOWN_PARTS else ""
    are = "is" if len(names) == 1 else "are"
    return BadModelFile(
        f"{path} is part of a model split into {count} files, of which {shown}{more} {are} missing "
        f"in {path.parent}. Download what is missing into the same folder."
    )
