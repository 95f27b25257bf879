"""A conversion from the opened checkpoint to published files.

Knows no terminal and no bytes.

Normally one pass over the checkpoint writes every wanted type. Where something must
first be measured on a file that decodes (an importance matrix), the types that need no
measurement are written in a first pass, the others in a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from convert.adapters.merge import merged
from convert.adapters.peft import PeftAdapter
from convert.architectures.family import Change
from convert.blocks import Block, BlockWorker, write_blocks
from convert.checkpoint import Checkpoint
from convert.errors import BadInput, NotEnoughDisk
from convert.gguf.parts import forms_of
from convert.hub.journal import Journal, Resumable, Streamed, may_go_on
from convert.importance.row_weights import RowWeights
from convert.memory import DEFAULT_MAX_RAM_BYTES, fit_work
from convert.outputs import (
    Importance,
    OpenOutput,
    OutputPlan,
    header_without_tensors,
    open_output,
    plan_output,
    read_source,
)
from convert.quality.sidecar import sidecar_path
from convert.quantize import Kernel, load_ggml_kernel
from convert.recipe import check_type
from convert.safetensors_file import SafetensorsFile
from convert.tokenizer.vocab import Vocabulary
from convert.writer import OutputFile, remove_stale, sync_directory


@dataclass(frozen=True)
class ScaledAdapter:
    """The folder of an adapter, and what it is multiplied by."""

    directory: Path
    scale: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to convert."""

    source: Path
    directory: Path  # the outputs are `directory`/`name`-TYPE.gguf
    name: str
    types: tuple[str, ...]
    num_threads: int
    max_ram_bytes: int = DEFAULT_MAX_RAM_BYTES
    adapter: ScaledAdapter | None = None  # that is merged into the weights
    drafts: bool = False  # with the layers that draft for the model
    max_file_bytes: int | None = None  # outputs that are larger become several files
    streamed: Streamed | None = None  # where the weights are not in `source`, but on a hub


@dataclass(frozen=True)
class Progress:
    """Bytes of the checkpoint dealt with."""

    done_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class WrittenFile:
    """One finished output: a GGUF in one file or in parts."""

    paths: tuple[Path, ...]  # one, or those of all parts
    type: str
    num_bytes: int  # of all together
    seconds: float  # from the start of the conversion until it appeared

    @property
    def path(self) -> Path:
        """What is opened: the file, or the first of the parts."""
        return self.paths[0]


Check = Callable[[Vocabulary, Sequence[Path]], None]


def free_disk_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


class Conversion:
    """A checkpoint that is open, and the files that were written of it; `publish` gives
    them their names.

    A context: whatever was not published when it ends is removed. Raises `BadInput` for
    whatever is wrong with the checkpoint, the disk or the memory.
    """

    def __init__(
        self,
        job: Job,
        *,
        kernel: Kernel | None = None,
        free_bytes: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        self._job = replace(job, types=tuple(dict.fromkeys(job.types)))
        self._started = time.monotonic()
        self._free_bytes = free_bytes
        self._outputs: dict[str, OpenOutput] = {}
        self._links: dict[str, Path] = {}  # folders with links to parts, by type
        self._stack = ExitStack()
        with self._stack:  # closes the checkpoint if it is not as it should be
            for type_name in job.types:
                check_type(type_name)
            open_weights = SafetensorsFile if job.streamed is None else job.streamed.open_weights
            self._checkpoint = checkpoint = self._stack.enter_context(
                Checkpoint(job.source, open_weights)
            )
            change = None if job.adapter is None else self._merging(job.adapter)
            self._source = read_source(checkpoint, job.source, job.name, change, drafts=job.drafts)
            self._kernel = kernel or load_ggml_kernel()
            self._prepare_directory()
            self._resumable = self._settle()
            self._num_passes = 0
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Conversion:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _settle(self) -> Resumable | None:
        """What can be gone on with, where the weights come from a hub."""
        job = self._job
        if job.streamed is None:
            return None
        made = (sorted(job.types), job.max_file_bytes, job.adapter, job.drafts)
        resumable = Resumable.of(job.directory, job.name, job.streamed, made)
        resumable.settle_others()
        return resumable

    def _merging(self, scaled: ScaledAdapter) -> Change:
        adapter = self._stack.enter_context(PeftAdapter(scaled.directory))
        return partial(merged, adapter=adapter, scale=scaled.scale)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._source.vocabulary

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the new files, as sentences; of their numbers only
        once they are written.
        """
        rounding = self._checkpoint.rounding
        if not rounding.num_rounded:
            return self._source.notes
        return (
            *self._source.notes,
            f"{rounding.num_rounded} of {rounding.num_scales} scales of the checkpoint's quantized "
            "weights are no half-precision numbers, as which GGUF has them; they were rounded, by "
            "less than one part in 2,000 unless they are below 0.00006.",
        )

    @property
    def stored_type(self) -> str:
        """The type that most of the checkpoint's weights are stored in."""
        return self._source.stored_type

    @property
    def train_ctx(self) -> int:
        """The longest text in tokens that the model was made for."""
        return self._source.train_ctx

    def check_disk(self, types: Sequence[str]) -> None:
        """Raises `NotEnoughDisk` if files
        of these types do not fit beside each other.
        """
        plans = [self._plan(type_name, None) for type_name in types]
        needed, free = sum(plan.num_bytes for plan in plans), self._free_bytes(self._job.directory)
        if self._resumable is not None:
            needed = max(0, needed - self._resumable.allocated_bytes())
        if needed > free:
            raise NotEnoughDisk(
                f"{self._job.directory} has {free} bytes free, but the {len(plans)} output files "
                f"need {needed}. Free {needed - free} more bytes or choose fewer --types."
            )

    @contextlib.contextmanager
    def vocabulary_file(self) -> Iterator[Path]:
        """A small file with the vocabulary that all outputs will have; gone afterwards."""
        type_name = self._job.types[0]
        header = header_without_tensors(self._source, type_name)
        file = OutputFile(self._job.directory / f"{self._job.name}-{type_name}.gguf", len(header))
        try:
            file.write(header, 0)
            yield file.partial
        finally:
            file.discard()

    def write(
        self, types: Sequence[str], on_progress: OnProgress, importance: Importance | None = None
    ) -> None:
        """One pass over the checkpoint: writes files of these types, whole and synced,
        but without their names.
        """
        tensors = self._source.tensors
        weights = RowWeights(importance.matrix if importance else None, tensors)
        kept_bytes = 0 if self._job.streamed is None else self._job.streamed.kept_bytes
        work = fit_work(self._job.max_ram_bytes, self._job.num_threads, tensors, kept_bytes)
        plans = [self._plan(type_name, importance) for type_name in dict.fromkeys(types)]
        tensors = [t for t in tensors if any(t.name in plan.places for plan in plans)]
        journal = self._journal()
        opened = [self._open(plan) for plan in plans]
        worker: Callable[[Block], int] = BlockWorker(self._kernel, opened, weights)
        left = tensors
        if journal is not None:
            done = journal.begin(_digest(plans, importance), opened)
            left, worker = [t for t in tensors if t.name not in done], journal.noting(worker)
        total_bytes = sum(tensor.stored_bytes for tensor in tensors)
        had_bytes = total_bytes - sum(tensor.stored_bytes for tensor in left)
        write_blocks(
            worker,
            left,
            work,
            lambda now: on_progress(Progress(had_bytes + now, total_bytes)),
            on_failure=(lambda: None) if self._job.streamed is None else self._job.streamed.stop,
        )
        for output in opened:
            output.sync()
        if journal is not None:
            journal.finish()

    def _journal(self) -> Journal | None:
        """Of the pass that begins, where one can be gone on with."""
        if self._resumable is None:
            return None
        journal = Journal(self._resumable, self._num_passes)
        self._num_passes += 1
        self._stack.callback(journal.close)
        return journal

    def path_of(self, type_name: str) -> Path:
        """Where the file of a type that was written lies until it is published: something
        that llama.cpp can open.
        """
        files = self._outputs[type_name].files
        return files[0].partial if len(files) == 1 else self._linked_parts(type_name)

    def _linked_parts(self, type_name: str) -> Path:
        """The first of links to unpublished parts, with the names by which parts are found."""
        if type_name not in self._links:
            folder = self._stack.enter_context(TemporaryDirectory(prefix="appliance-convert-"))
            self._links[type_name] = Path(folder)
            for file in self._outputs[type_name].files:
                (Path(folder) / file.path.name).symlink_to(file.partial.resolve())
        return self._links[type_name] / self._outputs[type_name].files[0].path.name

    @property
    def unpublished(self) -> dict[str, Path]:
        """Where the wanted files lie, by type."""
        return {
            type_name: self.path_of(type_name)
            for type_name in self._job.types
            if type_name in self._outputs
        }

    def publish(self) -> list[WrittenFile]:
        """Gives the wanted files their names, in the order of the job's types."""
        written = [self._commit(self._outputs[type_name]) for type_name in self._job.types]
        sync_directory(self._job.directory)
        if self._resumable is not None:
            self._resumable.remove()
        return written

    def _plan(self, type_name: str, importance: Importance | None) -> OutputPlan:
        path = self._job.directory / f"{self._job.name}-{type_name}.gguf"
        # what nobody wants to keep need not be cut
        max_bytes = self._job.max_file_bytes if type_name in self._job.types else None
        return plan_output(self._source, path, type_name, importance, max_bytes)

    def _open(self, plan: OutputPlan) -> OpenOutput:
        key = None if self._resumable is None else self._resumable.pass_key(self._num_passes - 1)
        output = open_output(plan, key)
        self._stack.push(partial(self._leave, output))
        self._outputs[plan.type] = output
        return output

    def _leave(
        self,
        output: OpenOutput,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """When all ends: what was not published goes, but where it can be gone on with."""
        if self._resumable is not None and may_go_on(error):
            output.keep()
            return
        output.discard()
        if self._resumable is not None:
            self._resumable.remove()

    def _commit(self, output: OpenOutput) -> WrittenFile:
        output.commit()
        plan = output.plan
        paths = tuple(file.path for file in plan.files)
        for path in {*forms_of(plan.path), *paths}:
            # what was measured of the file that was there
            sidecar_path(path).unlink(missing_ok=True)
            if path not in paths:  # the same model as it was cut before
                path.unlink(missing_ok=True)
        return WrittenFile(
            paths, plan.type, plan.num_bytes, round(time.monotonic() - self._started, 3)
        )

    def _prepare_directory(self) -> None:
        directory = self._job.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{directory} cannot be created: {error.strerror}.") from error
        remove_stale(directory)


def convert(
    job: Job,
    on_progress: OnProgress = lambda _progress: None,
    *,
    importance: Importance | None = None,
    kernel: Kernel | None = None,
    free_bytes: Callable[[Path], int] = free_disk_bytes,
    check: Check = lambda _vocabulary, _paths: None,
) -> list[WrittenFile]:
    """Writes every wanted type of `job` in one pass and returns the files, or raises
    and leaves nothing.

    `check` sees the files when they are whole but have no names yet; nothing is
    published if it raises. Raises `BadInput` for whatever is wrong with the checkpoint,
    the disk or the memory.
    """
    with Conversion(job, kernel=kernel, free_bytes=free_bytes) as conversion:
        conversion.check_disk(job.types)
        conversion.write(job.types, on_progress, importance)
        check(conversion.vocabulary, list(conversion.unpublished.values()))
        return conversion.publish()


def _digest(plans: Sequence[OutputPlan], importance: Importance | None) -> str:
    """Tells apart what is written: SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    for plan in plans:
        digest.update(plan.type.encode())
        for file in plan.files:
            digest.update(file.header)
    if importance is not None:
        digest.update(importance.matrix.digest())
    return digest.hexdigest()


def default_num_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
