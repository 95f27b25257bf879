"""Models made from others, for benchmarks:
one as slow as a large one, one that knows nothing.

Run: python -m bench.made_models slowed SOURCE.gguf TARGET.gguf NUM_BLOCKS [FEED_FORWARD]
     python -m bench.made_models random SOURCE.gguf TARGET.gguf

`slowed` appends blocks whose outputs are zero, so that what is computed stays the same.
Every appended block is a copy of the source's blocks by turns, with `attn_output` and
`ffn_down` zero: so it adds nothing to what passes through it, but takes the time of a
block. A trained pair of a small model and its smaller draft becomes one with the cost
ratio of a large model and its draft, and keeps its acceptance. Only for models whose
blocks add to a residual stream through these two tensors, such as llama. With
`FEED_FORWARD`, every block's feed-forward part is made so wide, by zeros in the
source's own blocks: then most time goes into few large matrices, as in a real model,
not into many small ones. `random` writes weights of no meaning, all tensors F32.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderField, ReaderTensor

_SILENT = ("attn_output.weight", "ffn_down.weight")
_WIDENED = ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


def make_slowed(
    source: Path, num_blocks: int, target: Path, feed_forward: int | None = None
) -> None:
    """Writes `target` with `num_blocks` more blocks than `source` has, all
    `feed_forward` wide in their middle.
    """
    reader = GGUFReader(source)
    arch = str(reader.fields["general.architecture"].contents())
    num_own = int(reader.fields[f"{arch}.block_count"].contents())
    own_width = int(reader.fields[f"{arch}.feed_forward_length"].contents())
    width = feed_forward or own_width
    assert width % own_width == 0, f"{width} is not a multiple of {own_width}"
    changed = {f"{arch}.block_count": num_own + num_blocks, f"{arch}.feed_forward_length": width}
    writer = _writer(reader, target, changed)
    blocks: dict[int, list[ReaderTensor]] = {}
    for tensor in reader.tensors:
        match = _BLOCK.fullmatch(tensor.name)
        if match:
            blocks.setdefault(int(match[1]), []).append(tensor)
        data = _padded(tensor.data, match[2] if match else "", width // own_width)
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    for at in range(num_own, num_own + num_blocks):
        for tensor in blocks[at % num_own]:
            rest = tensor.name.split(".", 2)[2]
            data = (
                np.tile(tensor.data, _tiles(rest, width // own_width))
                if rest in _WIDENED
                else tensor.data
            )
            data = np.zeros_like(data) if rest in _SILENT else data
            writer.add_tensor(f"blk.{at}.{rest}", data, raw_dtype=tensor.tensor_type)
    _write(writer)


def _tiles(rest: str, times: int) -> tuple[int, int]:
    """By which axis a block's tensor is widened, (rows, bytes of a row)."""
    return (1, times) if rest == "ffn_down.weight" else (times, 1)


def _padded(data: np.ndarray, rest: str, times: int) -> np.ndarray:
    """Zeros behind a tensor of the feed-forward part: of any quantization type, bytes
    of zero are weights of zero.
    """
    if rest not in _WIDENED:
        return data
    rows, row = _tiles(rest, times)
    return np.pad(data, ((0, (rows - 1) * data.shape[0]), (0, (row - 1) * data.shape[1])))


def make_random(source: Path, target: Path) -> None:
    """Writes `target` with the shapes and the vocabulary of `source`."""
    reader = GGUFReader(source)
    writer = _writer(reader, target, {"general.file_type": 0})
    rng = np.random.default_rng(1)
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        values = rng.normal(0.0, 0.05, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(tensor.name, values.astype(np.float32))
    _write(writer)


def _writer(reader: GGUFReader, target: Path, changed: dict[str, int]) -> GGUFWriter:
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        _copy_field(writer, field, changed)
    return writer


def _write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_field(writer: GGUFWriter, field: ReaderField, changed: dict[str, int]) -> None:
    if field.name.startswith("GGUF.") or field.name == "general.architecture":
        return  # written by the writer itself
    kind = field.types[0]
    inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, changed.get(field.name, field.contents()), kind, inner)


def main(argv: list[str]) -> None:
    kind, source, target, *rest = argv
    if kind == "slowed":
        make_slowed(Path(source), int(rest[0]), Path(target), int(rest[1]) if rest[1:] else None)
    elif kind == "random":
        make_random(Path(source), Path(target))
    else:
        raise SystemExit(f"The first argument must be slowed or random (got {kind}).")
    print(f"{target}: {Path(target).stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
