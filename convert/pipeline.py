"""One pass over a checkpoint that writes several GGUFs at once in bounded memory. Knows no terminal.

Every output's layout is known before the first byte, so a block of rows is an independent piece of work: read it, turn
it into float32, quantize it once per ggml type that any output wants, write the results where they belong. Blocks are
done on all cores in any order, and at most `num_threads` of them are in memory.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.architectures import find_family
from convert.architectures.family import read_model
from convert.checkpoint import Checkpoint
from convert.errors import BadInput, DamagedCheckpoint, NotEnoughDisk
from convert.gguf_header import TensorSlot, encode_header, lay_out, padded
from convert.memory import DEFAULT_MAX_RAM_BYTES, WorkSize, fit_work
from convert.metadata import general_fields
from convert.quantize import Kernel, Unrepresentable, load_ggml_kernel, row_bytes
from convert.recipe import ModelShape, assign_types, find_mixture
from convert.safetensors_file import to_float32
from convert.tensors import OutputTensor
from convert.vocab import Vocabulary, load_vocabulary
from convert.writer import OutputFile, remove_stale, sync_directory

NATIVE_TYPES = {"F32": GGMLQuantizationType.F32, "F16": GGMLQuantizationType.F16, "BF16": GGMLQuantizationType.BF16}


@dataclass(frozen=True)
class Job:
    """What to convert; outputs are `directory`/`name`-TYPE.gguf."""

    source: Path
    directory: Path
    name: str
    types: tuple[str, ...]
    num_threads: int
    max_ram_bytes: int = DEFAULT_MAX_RAM_BYTES


@dataclass(frozen=True)
class Progress:
    """Bytes of the checkpoint dealt with."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class WrittenFile:
    """One finished output; `seconds` is from the start of the conversion to its appearance."""

    path: Path
    type: str
    num_bytes: int
    seconds: float


@dataclass(frozen=True)
class OutputPlan:
    """One GGUF before it is written: its first bytes, and the place of every tensor by name."""

    path: Path
    type: str
    header: bytes
    slots: dict[str, TensorSlot]

    @property
    def num_bytes(self) -> int:
        last = max(self.slots.values(), key=lambda slot: slot.offset)
        return len(self.header) + padded(last.offset + last.num_bytes)


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


Check = Callable[[Vocabulary, Sequence[Path]], None]


def free_disk_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def convert(
    job: Job,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    *,
    kernel: Kernel | None = None,
    free_bytes: Callable[[Path], int] = free_disk_bytes,
    check: Check = lambda _vocabulary, _paths: None,
) -> list[WrittenFile]:
    """Writes every wanted type of `job` and returns the files, or raises and leaves nothing.

    `check` sees the files when they are whole but have no names yet; nothing is published if it raises. Raises
    `BadInput` for whatever is wrong with the checkpoint, the disk or the memory.
    """
    started = time.monotonic()
    with Checkpoint(job.source) as checkpoint:
        vocabulary, tensors, plans = _plan(job, checkpoint)
        work = fit_work(job.max_ram_bytes, job.num_threads, tensors)
        _prepare_directory(job.directory)
        _check_disk(job.directory, plans, free_bytes)
        with ExitStack() as stack:
            outputs = [(plan, _open_output(plan, stack)) for plan in plans]
            _run(_BlockWorker(kernel or load_ggml_kernel(), outputs), tensors, work, on_progress)
            for _, output in outputs:
                output.sync()
            check(vocabulary, [output.partial for _, output in outputs])
            written = [_commit(plan, output, started) for plan, output in outputs]
            sync_directory(job.directory)
    return written


def _plan(job: Job, checkpoint: Checkpoint) -> tuple[Vocabulary, list[OutputTensor], list[OutputPlan]]:
    mixtures = {name: find_mixture(name) for name in job.types}
    family = find_family(checkpoint.config.architecture)
    hyper, tensors = read_model(family, checkpoint.config, checkpoint.tensors)
    shape = ModelShape(family.name, hyper.num_layers, hyper.num_heads, hyper.num_kv_heads, hyper.num_experts)
    vocabulary = load_vocabulary(job.source, checkpoint.config, hyper.sizes["vocab"])
    plans = []
    for type_name, mixture in mixtures.items():
        types = assign_types(mixture, tensors, shape)
        slots = lay_out((tensor.name, tensor.shape, types[tensor.name]) for tensor in tensors)
        general = general_fields(family.name, vocabulary.model_name(job.name), mixture, tensors)
        fields = [*general, *hyper.fields, *vocabulary.fields()]
        path = job.directory / f"{job.name}-{type_name}.gguf"
        plans.append(OutputPlan(path, type_name, encode_header(fields, slots), {slot.name: slot for slot in slots}))
    return vocabulary, tensors, plans


def _prepare_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{directory} cannot be made: {error.strerror}.") from error
    remove_stale(directory)


def _check_disk(directory: Path, plans: Sequence[OutputPlan], free_bytes: Callable[[Path], int]) -> None:
    needed, free = sum(plan.num_bytes for plan in plans), free_bytes(directory)
    if needed > free:
        raise NotEnoughDisk(
            f"{directory} has {free} bytes free, and the {len(plans)} outputs need {needed}: make room for "
            f"{needed - free} more bytes, or ask for fewer --types."
        )


def _open_output(plan: OutputPlan, stack: ExitStack) -> OutputFile:
    output = OutputFile(plan.path, plan.num_bytes)
    stack.callback(output.discard)
    output.write(plan.header, 0)
    return output


def _commit(plan: OutputPlan, output: OutputFile, started: float) -> WrittenFile:
    output.commit()
    return WrittenFile(plan.path, plan.type, plan.num_bytes, round(time.monotonic() - started, 3))


class _BlockWorker:
    """Carries one block into every output; called from several threads at once."""

    def __init__(self, kernel: Kernel, outputs: Sequence[tuple[OutputPlan, OutputFile]]) -> None:
        self._kernel = kernel
        self._outputs = outputs

    def __call__(self, block: Block) -> int:
        """Returns the bytes of the checkpoint that were dealt with."""
        tensor, source = block.tensor, block.tensor.source
        raw = source.read_rows(block.start, block.stop)
        values = to_float32(raw, source.stored_type)
        if not np.isfinite(values).all():
            raise DamagedCheckpoint(f"The tensor of {tensor.name} holds NaN or infinite values.")
        made: dict[GGMLQuantizationType, memoryview] = {
            NATIVE_TYPES[source.stored_type.value]: np.ascontiguousarray(raw).data.cast("B")
        }
        for plan, output in self._outputs:
            slot = plan.slots[tensor.name]
            if slot.type not in made:
                made[slot.type] = self._quantize(values, slot)
            offset = len(plan.header) + slot.offset + block.start * row_bytes(tensor.row_items, slot.type)
            output.write(made[slot.type], offset)
        return block.stored_bytes

    def _quantize(self, values: NDArray[np.float32], slot: TensorSlot) -> memoryview:
        try:
            return self._kernel.quantize(values, slot.type).data
        except Unrepresentable as error:
            raise Unrepresentable(f"{slot.name}: {error}") from None


def _run(
    worker: Callable[[Block], int],
    tensors: Sequence[OutputTensor],
    work: WorkSize,
    on_progress: Callable[[Progress], None],
) -> None:
    total_bytes = sum(tensor.stored_bytes for tensor in tensors)
    done_bytes = 0
    on_progress(Progress(0, total_bytes))
    for block_bytes in _map_unordered(worker, _blocks(tensors, work.block_items), work.num_threads):
        done_bytes += block_bytes
        on_progress(Progress(done_bytes, total_bytes))


def _blocks(tensors: Sequence[OutputTensor], block_items: int) -> Iterator[Block]:
    for tensor in tensors:
        group = tensor.source.row_group
        rows = max(1, block_items // (tensor.row_items * group)) * group
        for start in range(0, tensor.num_rows, rows):
            yield Block(tensor, start, min(start + rows, tensor.num_rows))


def _map_unordered(worker: Callable[[Block], int], blocks: Iterator[Block], num_threads: int) -> Iterator[int]:
    """Results as they come; never more than twice as many blocks under way as threads, and none after a failure."""
    with ThreadPoolExecutor(num_threads, thread_name_prefix="convert") as pool:
        pending: set[Future[int]] = set()
        try:
            for block in blocks:
                pending.add(pool.submit(worker, block))
                if len(pending) >= 2 * num_threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def default_num_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
