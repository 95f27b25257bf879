"""What of a conversion from a hub is done, so that it can go on after it was ended.

Knows no hub and no bytes.

The outputs are hidden files (`.NAME-TYPE.gguf.KEY-0.resumable`) that outlive the process, and
beside them lies a journal (`.NAME.KEY-0.journal`): lines of JSON, the first of which says what
is converted to what, each other one which tensors are whole and on disk in every output. The
KEY is of the repository's commit and of what is asked for; the number is that of the pass. A
lock on the journal, which dies with its process, keeps a second conversion away.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.blocks import Block
from convert.errors import BadInput, HubLost, NotEnoughDisk, SourceChanged
from convert.outputs import OpenOutput
from convert.safetensors_file import SafetensorsFile
from convert.tensors import OutputTensor
from convert.writer import RESUMABLE_SUFFIX

_FORMAT = 1
SYNC_BYTES = 64 << 20  # of the checkpoint: what is read again at most, beside an unfinished tensor


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What is different where the weights are not here."""

    repo: str
    commit: str
    is_asked_for: bool  # that commit, and not whatever is the newest
    open_weights: Callable[[Path], SafetensorsFile]
    kept_bytes: int  # of memory, that reading takes
    stop: Callable[[], None] = lambda: None  # fails all reads that wait for the hub


@dataclass(frozen=True)
class Resumable:
    """One conversion, by what it makes: where it leaves what it has not finished."""

    directory: Path
    name: str  # of its outputs
    streamed: Streamed
    key: str

    @classmethod
    def of(
        cls, directory: Path, name: str, streamed: Streamed, made: Sequence[object]
    ) -> Resumable:
        """`made` says what becomes of the checkpoint."""
        text = repr((streamed.repo, streamed.commit, name, *made))
        return cls(directory, name, streamed, hashlib.sha256(text.encode()).hexdigest()[:16])

    def pass_key(self, number: int) -> str:
        return f"{self.key}-{number}"

    def allocated_bytes(self) -> int:
        """What the disk has given to its unfinished outputs already."""
        return sum(path.stat().st_blocks * 512 for path in self._unfinished(self.key))

    def settle_others(self) -> None:
        """Removes what other conversions to the same name have left unfinished; those that are
        under way stay.

        Raises `SourceChanged` where one is of another commit of the same repository, and it is
        not certain that this one was meant.
        """
        for path in self.directory.glob(f".{glob.escape(self.name)}.*.journal"):
            key = path.name.removesuffix(".journal").rpartition(".")[2].rpartition("-")[0]
            with _locked(path) as fd:
                if fd is None or key == self.key:
                    continue
                head = next(_lines(fd), {})
                old = head.get("commit")
                if head.get("repo") == self.streamed.repo and old != self.streamed.commit:
                    self._demand_a_choice(old)
                for unfinished in self._unfinished(key):
                    unfinished.unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """What is left of all its passes."""
        for path in (*self._unfinished(self.key), *self._journals()):
            path.unlink(missing_ok=True)

    def _demand_a_choice(self, old: object) -> None:
        if self.streamed.is_asked_for:
            return
        repo, new = self.streamed.repo, self.streamed.commit
        raise SourceChanged(
            f"{repo} has changed since a conversion into {self.directory} that was not finished: "
            f"that one read commit {old}, and the newest is {new}. To finish it, give "
            f"{repo}@{old}; to begin anew, {repo}@{new}."
        )

    def _unfinished(self, key: str) -> Iterator[Path]:
        return self.directory.glob(f".{glob.escape(self.name)}-*.{key}-*{RESUMABLE_SUFFIX}")

    def _journals(self) -> Iterator[Path]:
        return self.directory.glob(f".{glob.escape(self.name)}.{self.key}-*.journal")


def may_go_on(error: BaseException | None) -> bool:
    """Whether what was done is worth keeping: the end came from outside."""
    is_signal = error is not None and not isinstance(error, Exception)
    return is_signal or isinstance(error, HubLost | NotEnoughDisk)


class Journal:
    """Of one pass. `note` is thread-safe.

    Raises `BadInput` where another process writes the same.
    """

    def __init__(self, resumable: Resumable, number: int) -> None:
        key = resumable.pass_key(number)
        self.path = resumable.directory / f".{resumable.name}.{key}.journal"
        self._streamed = resumable.streamed
        self._lock = threading.Lock()
        self._rows: Counter[str] = Counter()
        self._whole: list[str] = []  # in the outputs, but perhaps not on disk
        self._whole_bytes = 0
        self._outputs: tuple[OpenOutput, ...] = ()
        try:
            self._fd = _open_locked(self.path)
        except BlockingIOError:
            raise BadInput(
                f"{resumable.streamed.repo} is being converted into {resumable.directory} already. "
                "Wait for that one, or choose another --out or --name."
            ) from None
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written: {error.strerror}.") from error

    def begin(self, plan: str, outputs: Sequence[OpenOutput]) -> frozenset[str]:
        """The tensors that are whole already in all `outputs`: none, where one of them is new,
        or where `plan`, which tells apart what is written, is another one.
        """
        self._outputs = tuple(outputs)
        head = {
            "format": _FORMAT,
            "repo": self._streamed.repo,
            "commit": self._streamed.commit,
            "plan": plan,
        }
        lines = list(_lines(self._fd))
        if not all(output.was_there for output in outputs) or lines[:1] != [head]:
            os.ftruncate(self._fd, 0)
            self._append(head)
            return frozenset()
        names = [line.get("tensors") for line in lines[1:]]
        return frozenset(str(name) for some in names if isinstance(some, list) for name in some)

    def noting(self, worker: Callable[[Block], int]) -> Callable[[Block], int]:
        """`worker`, and what it has done is noted."""

        def work(block: Block) -> int:
            num_bytes = worker(block)
            self._note(block)
            return num_bytes

        return work

    def finish(self) -> None:
        """Everything is on disk."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        os.close(self._fd)

    def _note(self, block: Block) -> None:
        tensor: OutputTensor = block.tensor
        with self._lock:
            self._rows[tensor.name] += block.stop - block.start
            if self._rows[tensor.name] < tensor.num_rows:
                return
            self._whole.append(tensor.name)
            self._whole_bytes += tensor.stored_bytes
            if self._whole_bytes >= SYNC_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._whole:
            for output in self._outputs:
                output.sync()
            self._append({"tensors": self._whole})
            self._whole, self._whole_bytes = [], 0

    def _append(self, record: dict[str, Any]) -> None:
        try:
            os.write(self._fd, json.dumps(record).encode() + b"\n")
            os.fsync(self._fd)
        except OSError as error:
            raise NotEnoughDisk(f"{self.path} cannot be written: {error.strerror}.") from error


def _open_locked(path: Path) -> int:
    """Raises `BlockingIOError` where another process holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)  # its owner removed it between opening and locking


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """None where another process has it, or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
        else:
            yield fd
    finally:
        os.close(fd)


def _lines(fd: int) -> Iterator[dict[str, Any]]:
    """The records, but what a power cut has left half of."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        for line in file:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record
