"""Rows of a checkpoint into the rows of several GGUFs, on all cores in bounded memory.

Knows no terminal and no plan.

Every output's layout is known before the first byte, so a block of rows is an
independent piece of work: read it, turn it into float32, quantize it once per ggml type
that any output wants (or take its blocks over, where the checkpoint's are of that type),
write the results where they belong. Blocks are done in any
order, and at most `num_threads` of them are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.errors import DamagedCheckpoint
from convert.importance.row_weights import RowWeights
from convert.memory import WorkSize
from convert.outputs import OpenOutput
from convert.quantize import Kernel, Unrepresentable, row_bytes
from convert.safetensors_file import to_float32
from convert.tensors import OutputTensor, packs, read_packed

NATIVE_TYPES = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}


@dataclass(frozen=True)
class Block:
    """Rows `start` to `stop` of a tensor."""

    tensor: OutputTensor
    start: int
    stop: int

    @property
    def stored_bytes(self) -> int:
        num_items = (self.stop - self.start) * self.tensor.row_items
        return num_items * self.tensor.source.stored_type.dtype.itemsize


class BlockWorker:
    """Carries one block into every output; called from several threads at once."""

    def __init__(self, kernel: Kernel, outputs: Sequence[OpenOutput], weights: RowWeights) -> None:
        self._kernel = kernel
        self._outputs = outputs
        self._weights = weights

    def __call__(self, block: Block) -> int:
        """Returns the bytes of the checkpoint that were dealt with."""
        tensor, source = block.tensor, block.tensor.source
        raw = source.read_rows(block.start, block.stop)
        values = to_float32(raw, source.stored_type)
        if not np.isfinite(values).all():
            raise DamagedCheckpoint(
                f"The checkpoint's tensor for {tensor.name} contains NaN or infinite values. "
                "Download it again, or use another revision of the model."
            )
        made: dict[GGMLQuantizationType, memoryview] = {
            NATIVE_TYPES[source.stored_type.value]: np.ascontiguousarray(raw).data.cast("B")
        }
        for output in self._outputs:
            if tensor.name not in output.plan.places:
                continue
            ggml_type = output.plan.places[tensor.name].type
            if ggml_type not in made and ggml_type in packs(source):
                packed = read_packed(source, block.start, block.stop, ggml_type)
                made[ggml_type] = np.ascontiguousarray(packed).data.cast("B")
            elif ggml_type not in made:
                made[ggml_type] = self._quantize(block, values, ggml_type)
            offset = block.start * row_bytes(tensor.row_items, ggml_type)
            output.write(tensor.name, offset, made[ggml_type])
        return block.stored_bytes

    def _quantize(
        self, block: Block, values: NDArray[np.float32], ggml_type: GGMLQuantizationType
    ) -> memoryview:
        parts = []
        try:
            for start, stop, weights in self._weights.of_rows(
                block.tensor, block.start, block.stop
            ):
                rows = values[start - block.start : stop - block.start]
                parts.append(self._kernel.quantize(rows, ggml_type, weights))
        except Unrepresentable as error:
            raise Unrepresentable(f"{block.tensor.name}: {error}") from None
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).data


def write_blocks(
    worker: Callable[[Block], int],
    tensors: Sequence[OutputTensor],
    work: WorkSize,
    on_done: Callable[[int], None],
    on_failure: Callable[[], None] = lambda: None,
) -> None:
    """Has `worker` deal with every row; after each block `on_done` gets the bytes
    dealt with so far. Where it fails or is ended, the blocks under way are waited for, and
    `on_failure`, which may cut them short, is called first.
    """
    done_bytes = 0
    on_done(done_bytes)
    blocks = _blocks(tensors, work.block_items)
    with ThreadPoolExecutor(work.num_threads, thread_name_prefix="convert") as pool:
        try:
            for block_bytes in _map_unordered(pool, worker, blocks, 2 * work.num_threads):
                done_bytes += block_bytes
                on_done(done_bytes)
        except BaseException:
            on_failure()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _blocks(tensors: Sequence[OutputTensor], block_items: int) -> Iterator[Block]:
    for tensor in tensors:
        group = tensor.source.row_group
        rows = max(1, block_items // (tensor.row_items * group)) * group
        for start in range(0, tensor.num_rows, rows):
            yield Block(tensor, start, min(start + rows, tensor.num_rows))


def _map_unordered(
    pool: ThreadPoolExecutor,
    worker: Callable[[Block], int],
    blocks: Iterator[Block],
    most_pending: int,
) -> Iterator[int]:
    """Results as they come; never more than `most_pending` blocks under way."""
    pending: set[Future[int]] = set()
    for block in blocks:
        pending.add(pool.submit(worker, block))
        if len(pending) >= most_pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)
