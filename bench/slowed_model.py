"""Makes a model slow without changing what it computes: blocks appended whose outputs are zero.

Run: python -m bench.slowed_model SOURCE.gguf NUM_BLOCKS TARGET.gguf

Every appended block is a copy of the source's blocks by turns, with `attn_output` and `ffn_down` zero: so it adds
nothing to what passes through it, but takes the time of a block. A trained pair of a small model and its smaller draft
becomes one with the cost ratio of a large model and its draft, and keeps its acceptance. Only for models whose blocks
add to a residual stream through these two tensors, such as llama.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderField, ReaderTensor

_SILENT = ("attn_output.weight", "ffn_down.weight")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


def make_slowed(source: Path, num_blocks: int, target: Path) -> None:
    """Writes `target` with `num_blocks` more blocks than `source` has."""
    reader = GGUFReader(source)
    arch = _text(reader, "general.architecture")
    num_own = int(reader.fields[f"{arch}.block_count"].contents())
    writer = GGUFWriter(target, arch)
    for field in reader.fields.values():
        _copy_field(writer, field, {f"{arch}.block_count": num_own + num_blocks})
    blocks: dict[int, list[ReaderTensor]] = {}
    for tensor in reader.tensors:
        match = _BLOCK.fullmatch(tensor.name)
        if match:
            blocks.setdefault(int(match[1]), []).append(tensor)
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for at in range(num_own, num_own + num_blocks):
        for tensor in blocks[at % num_own]:
            rest = tensor.name.split(".", 2)[2]
            data = np.zeros_like(tensor.data) if rest in _SILENT else tensor.data
            writer.add_tensor(f"blk.{at}.{rest}", data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _text(reader: GGUFReader, key: str) -> str:
    return str(reader.fields[key].contents())


def _copy_field(writer: GGUFWriter, field: ReaderField, changed: dict[str, int]) -> None:
    if field.name.startswith("GGUF.") or field.name == "general.architecture":
        return  # written by the writer itself
    kind = field.types[0]
    inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, changed.get(field.name, field.contents()), kind, inner)


def main(argv: list[str]) -> None:
    source, num_blocks, target = argv
    make_slowed(Path(source), int(num_blocks), Path(target))
    print(f"{target}: {Path(target).stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
