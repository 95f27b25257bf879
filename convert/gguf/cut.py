"""Where a GGUF is cut into files that are no larger than wanted.

Knows no model and writes nothing.

The form is that of llama.cpp (tools/gguf-split/gguf-split.cpp): tensors stay whole and in
order, each part says which it is of how many, and the first has all metadata. There a size
counts tensors alone; here it is that of the file, for a disk or a hub has a limit for files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from convert.errors import BadInput
from convert.gguf.header import (
    Field,
    TensorSlot,
    encode_header,
    encoded_bytes,
    i32,
    lay_out,
    padded,
    u16,
)
from convert.gguf.parts import part_path

MAX_PARTS = 1024  # whoever reads them takes no more: appliance/store/split.py
_NO_FIELDS = encoded_bytes([], [])


@dataclass(frozen=True)
class PlannedFile:
    """One file before it is written:
    its first bytes, and the place of every tensor in it by name.
    """

    path: Path
    header: bytes
    slots: dict[str, TensorSlot]

    @property
    def num_bytes(self) -> int:
        last = max(self.slots.values(), key=lambda slot: slot.offset)
        return len(self.header) + padded(last.offset + last.num_bytes)


def plan_file(path: Path, fields: Sequence[Field], slots: Sequence[TensorSlot]) -> PlannedFile:
    """Raises `DamagedCheckpoint` for text no GGUF can hold."""
    return PlannedFile(path, encode_header(fields, slots), {slot.name: slot for slot in slots})


def cut(file: PlannedFile, fields: Sequence[Field], max_bytes: int) -> tuple[PlannedFile, ...]:
    """`file`, whose metadata are `fields`, as parts of at most `max_bytes`, which are called
    `NAME-00001-of-00002.gguf` and on; as it is, where it is no larger.

    Raises `BadInput` where a tensor alone takes more, and for more parts than are read.
    """
    if file.num_bytes <= max_bytes:
        return (file,)
    slots = sorted(file.slots.values(), key=lambda slot: slot.offset)
    groups = list(_groups(file.path, slots, fields, max_bytes))
    count = len(groups)
    if count > MAX_PARTS:
        raise BadInput(
            f"--split-max-size must be larger: with {decimal(max_bytes)}, {file.path.name} would "
            f"become {count} files, and at most {MAX_PARTS} can be read."
        )
    return tuple(
        plan_file(
            part_path(file.path, index + 1, count),
            [*(fields if index == 0 else ()), *_split_fields(index, count, len(slots))],
            lay_out((slot.name, slot.shape, slot.type) for slot in group),
        )
        for index, group in enumerate(groups)
    )


def _split_fields(index: int, count: int, num_tensors: int) -> list[Field]:
    """In the types that llama.cpp asks for; it refuses others."""
    return [
        u16("split.no", index),
        u16("split.count", count),
        i32("split.tensors.count", num_tensors),
    ]


def _groups(
    path: Path, slots: Sequence[TensorSlot], fields: Sequence[Field], max_bytes: int
) -> Iterator[list[TensorSlot]]:
    """As many tensors as fit into each file, in order."""
    split_bytes = encoded_bytes(_split_fields(0, 1, len(slots)), [])
    header_bytes = split_bytes + encoded_bytes(fields, []) - _NO_FIELDS
    group: list[TensorSlot] = []
    data_bytes = 0
    for slot in slots:
        entry_bytes = encoded_bytes([], [slot]) - _NO_FIELDS
        taken = data_bytes + padded(slot.num_bytes)
        if group and padded(header_bytes + entry_bytes) + taken > max_bytes:
            yield group
            group, header_bytes, taken = [], split_bytes, padded(slot.num_bytes)
        header_bytes, data_bytes = header_bytes + entry_bytes, taken
        group.append(slot)
        if padded(header_bytes) + data_bytes > max_bytes:
            raise BadInput(
                f"--split-max-size must be at least {padded(header_bytes) + data_bytes} bytes for "
                f"{path.name} (got {max_bytes}): so much take {slot.name}, which stays whole, and "
                "what is before it in its file."
            )
    yield group
