"""GGUF files with other metadata than they came with. Knows no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def rewritten(source: Path, target: Path, change: Callable[[str, object], object]) -> Path:
    """A copy with other metadata."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, change(field.name, field.contents()), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def other_token(name: str, value: object) -> object:
    if name != "tokenizer.ggml.tokens":
        return value
    assert isinstance(value, list)
    return [*value[:2000], "anything", *value[2001:]]
