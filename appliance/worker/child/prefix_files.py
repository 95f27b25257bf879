"""Saved prefixes on disk, so that a prompt seen before a restart is not computed again.

Knows no cache and no text.

One file per prefix: a magic number, the SHA-256 of the rest, then a MessagePack record.
Files of one model, KV type and library lie in one folder, named by their fingerprint;
cells computed by anything else would be garbage. A file that is not as it should be is
removed, never loaded. They hold what people wrote, as token ids: only the owner may
read them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from appliance.engine.adapters.sets import AdapterSet, key_of, plain_tokens
from appliance.engine.cache.host_prefixes import SavedPrefix
from appliance.llama.loading.weight_files import files_of
from appliance.worker.child.prefix_chains import PrefixChains

_log = logging.getLogger(__name__)
_MAGIC = b"APFX0001"
_SUFFIX = ".prefix"
_DIGEST_BYTES = 32
_KEY_BYTES = 16  # of adapters
_MAX_WRITE_S = 3600.0  # a file not complete after that never will be
# of each end of the model file: header, and weights of the first and last layers
_SAMPLE_BYTES = 4 << 20


class _Earlier(msgspec.Struct, array_like=True):
    """What a prefix continues: its first tokens, up to some number."""

    num_tokens: int
    first: int
    data: bytes
    is_branch: bool


class _PrefixRecord(msgspec.Struct, array_like=True):
    """`tokens` are little-endian 32-bit ids; `adapters` is 16 bytes, or none. Older files
    end with `data`, or `adapters`.
    """

    tokens: bytes
    first: int
    data: bytes
    adapters: bytes = b""  # that they were computed with
    is_branch: bool = False
    earlier: tuple[_Earlier, ...] = ()  # the first one first, where one file holds them all


def fingerprint(model: Path, *parts: str) -> str:
    """Names everything that decides what a saved cell means:
    the model's content, and `parts`.
    """
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in files_of(model):
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(size - _SAMPLE_BYTES, 0))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


class PrefixFiles:
    """All files below `root` take at most `max_bytes`; the oldest go first, whichever
    model they belong to, but none before what continues it.
    """

    def __init__(
        self,
        root: Path,
        fingerprint: str,
        max_bytes: int,
        *,
        ttl_s: float = math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ttl_s` is how long one is kept after it, or what continues it, was written;
        `clock` is in seconds since the epoch.
        """
        self._ttl_s = ttl_s
        self._clock = clock
        self._root = root
        self._folder = root / fingerprint
        self._max_bytes = max_bytes
        self._chains = PrefixChains()

    def load(self, now_s: float, max_bytes: int) -> Iterator[SavedPrefix]:
        """What is there for our fingerprint, newest first, as long as it stays within
        `max_bytes` together.
        """
        try:
            self._remove_leftovers()
            self._remove_expired()
            for path in sorted(self._folder.glob(f"*{_SUFFIX}"), key=_written_s, reverse=True):
                max_bytes -= path.stat().st_size
                if max_bytes < 0:
                    return
                chain = _read(path, now_s)
                if not chain:
                    _log.warning("%s was damaged and has been removed", path)
                    path.unlink()
                else:
                    self._chains.note(path, chain[-1])
                yield from chain
        except OSError as error:
            _log.warning("saved prefixes in %s could not be read: %s", self._folder, error)

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    def write(
        self, saved: SavedPrefix, given_name: str = "", earlier: Sequence[SavedPrefix] = ()
    ) -> int:
        """Keeps a prefix, in one file with the `earlier` ones that it continues; complete
        under its name or not there at all. Returns the file's bytes, 0 where there is none.

        A disk that refuses costs a warning.
        """
        tokens = array("i", plain_tokens(saved.tokens)).tobytes()
        key = key_of(saved.tokens)
        adapters = key.to_bytes(_KEY_BYTES, "little") if key else b""
        record = _PrefixRecord(
            tokens=tokens,
            first=saved.first,
            data=saved.data,
            adapters=adapters,
            is_branch=saved.is_branch,
            earlier=tuple(
                _Earlier(
                    num_tokens=len(each.tokens),
                    first=each.first,
                    data=each.data,
                    is_branch=each.is_branch,
                )
                for each in earlier
            ),
        )
        body = msgspec.msgpack.encode(record)
        num_bytes = len(_MAGIC) + _DIGEST_BYTES + len(body)
        named = tokens + saved.first.to_bytes(4, "little") + adapters
        own_name = hashlib.sha256(named).hexdigest()[:32]
        name = _file_name(given_name) if given_name else own_name
        if num_bytes > self._max_bytes:
            return 0
        temporary = self._folder / f".{name}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._remove_expired()
            self._make_room(num_bytes)
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
            ) as file:
                file.writelines((_MAGIC, hashlib.sha256(body).digest(), body))
                file.flush()
                os.fsync(file.fileno())
            path = self._folder / (name + _SUFFIX)
            temporary.replace(path)
            if not given_name:  # such a file holds what it continues itself
                self._chains.note(path, saved)
                self._chains.renew(saved)
        except OSError as error:
            _log.warning("a prefix could not be written to %s: %s", self._folder, error)
            _remove(temporary)
            return 0
        return num_bytes

    def read(self, given_name: str, now_s: float) -> tuple[list[SavedPrefix], int]:
        """What was written under a name, the earlier ones first, and its file's bytes;
        nothing where there is none, or it is damaged.
        """
        path = self._folder / (_file_name(given_name) + _SUFFIX)
        try:
            return _read(path, now_s), path.stat().st_size
        except OSError:
            return [], 0

    def _remove_leftovers(self) -> None:
        """What a writer that was killed or ran out
        of disk left behind; no budget counts it.
        """
        for path in self._root.glob("*/.*"):
            with contextlib.suppress(FileNotFoundError):  # its writer was quicker
                if time.time() - _written_s(path) > _MAX_WRITE_S:
                    path.unlink()

    def _remove_expired(self) -> None:
        oldest_s = self._clock() - self._ttl_s
        for path in self._root.glob(f"*/*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another worker was quicker
                if _written_s(path) < oldest_s:
                    path.unlink()

    def _make_room(self, num_bytes: int) -> None:
        files = sorted(self._root.glob(f"*/*{_SUFFIX}"), key=_written_s)
        total = sum(path.stat().st_size for path in files)
        while files and total + num_bytes > self._max_bytes:
            oldest = files.pop(0)
            total -= oldest.stat().st_size
            oldest.unlink(missing_ok=True)  # another worker makes room in the same folders


def _file_name(given_name: str) -> str:
    """Of a name that somebody else chose: no part of a path."""
    return "named-" + hashlib.sha256(given_name.encode()).hexdigest()[:32]


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the disk that refuses this was complained about already
        path.unlink(missing_ok=True)


def _written_s(path: Path) -> float:
    return path.stat().st_mtime


def _read(path: Path, now_s: float) -> list[SavedPrefix]:
    """The earlier ones first; nothing if it is anything but what `write` wrote."""
    # it may be large: no part of it is copied but what is kept
    content = memoryview(path.read_bytes())
    magic, rest = content[: len(_MAGIC)], content[len(_MAGIC) :]
    digest, body = rest[:_DIGEST_BYTES], rest[_DIGEST_BYTES:]
    if magic != _MAGIC or hashlib.sha256(body).digest() != digest:
        return []
    record = msgspec.msgpack.decode(body, type=_PrefixRecord)
    tokens = array("i")
    tokens.frombytes(record.tokens)
    adapters = AdapterSet(int.from_bytes(record.adapters, "little"))
    last = _Earlier(
        num_tokens=len(tokens), first=record.first, data=record.data, is_branch=record.is_branch
    )
    return [
        SavedPrefix(
            tokens=adapters.marked(tokens[: each.num_tokens]),
            first=each.first,
            data=each.data,
            last_used_s=now_s,
            is_branch=each.is_branch,
            on_disk=True,
        )
        for each in (*record.earlier, last)
    ]
