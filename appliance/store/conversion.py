"""Converts a checkpoint into the models directory when its
files are absent or outdated.

Knows no GGUF and no serving.

The conversion itself is another process (`python -m convert`), so that its native code
and its memory are not ours. A small record beside the outputs says what they were made
from and how large they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import BadModelFile, ConversionFailed, SetupError
from appliance.store.event import OnEvent, StoreEvent
from appliance.store.folder_lock import locked

RECORD_NAME = "conversion.json"
_RECORD_FORMAT = 1
_EXIT_BAD_INPUT = 2  # of `python -m convert`
_END_S = 5.0  # for convert to end in good order, and leave nothing unfinished behind
# What convert reads, but the model card: a new one is no reason to convert all weights again.
_SOURCE_SUFFIXES = (".json", ".jsonl", ".safetensors", ".model", ".tiktoken", ".jinja")
_SOURCE_NAMES = ("vocab.txt", "merges.txt", "rwkv_vocab_v20230424.txt")
_SOURCES_IN_FOLDERS = ("additional_chat_templates/*.jinja", "[0-9]*_*/config.json")


@dataclass(frozen=True)
class Conversion:
    """One conversion to make: `types` of `checkpoint`,
    as `directory`/`name`-TYPE.gguf.
    """

    name: str
    checkpoint: Path
    directory: Path
    types: tuple[str, ...]

    def output(self, type_name: str) -> Path:
        return self.directory / f"{self.name}-{type_name}.gguf"


@dataclass(frozen=True)
class _ConversionRecord:
    """What the files of a folder were made from."""

    checkpoint: str
    sources: Mapping[str, list[int]]  # by a file's name, its size and mtime in ns
    types: tuple[str, ...]
    sizes: Mapping[str, int]  # bytes of the files by type; none in records of earlier versions


@dataclass(frozen=True)
class _Work:
    """What is still to be done."""

    missing: tuple[str, ...]  # types to convert
    damaged: tuple[Path, ...]  # of their files
    sources: Mapping[str, list[int]]
    recorded: _ConversionRecord | None


def ensure_converted(
    conversion: Conversion,
    on_event: OnEvent,
    check: Callable[[Path], object] = Path.stat,
) -> tuple[Path, ...]:
    """Makes what is missing, damaged or older than its checkpoint; returns one file per
    type in the order of `types`.

    A file is damaged if its size is not the recorded one, or if `check` raises
    `BadModelFile` on it. Where nothing is to be done nothing is written, so the folder
    may be read-only. Two processes may call this at once: one converts, the other waits
    and finds the work done. Raises `BadModelFile` with convert's own words if the
    checkpoint is at fault, `ConversionFailed` if convert is.
    """
    try:
        if _work(conversion, check).missing:
            conversion.directory.mkdir(parents=True, exist_ok=True)
            with locked(conversion.directory, "converting into", on_event):
                _convert_missing(conversion, _work(conversion, check), on_event)
    except OSError as error:
        raise _unusable(conversion, error) from error
    return tuple(conversion.output(type_name) for type_name in conversion.types)


def is_converted(conversion: Conversion, check: Callable[[Path], object]) -> bool:
    """Whether `ensure_converted` would find nothing to do.

    Raises `SetupError` where the checkpoint cannot be read.
    """
    try:
        return not _work(conversion, check).missing
    except OSError as error:
        raise _unusable(conversion, error) from error


def _unusable(conversion: Conversion, error: OSError) -> SetupError:
    return SetupError(
        f"{error.filename or conversion.directory} cannot be used: {error.strerror}. Check its "
        "permissions and the disk, or use another --models-dir."
    )


def recorded_source(directory: Path) -> Path | None:
    """The checkpoint that a folder's files were converted from; None if no conversion
    is recorded there.
    """
    record = _read_record(directory)
    return Path(record.checkpoint) if record is not None else None


def recorded_types(directory: Path) -> tuple[str, ...]:
    """The quantizations that a folder's files were converted to; empty if no conversion
    is recorded there.
    """
    record = _read_record(directory)
    return record.types if record is not None else ()


def _work(conversion: Conversion, check: Callable[[Path], object]) -> _Work:
    sources = _sources(conversion.checkpoint)
    record = _read_record(conversion.directory)
    if record is None or record.sources != sources:
        # Files of other types are as outdated as the wanted ones: none may stay behind
        # and look current.
        recorded = record.types if record is not None else ()
        return _Work(tuple(dict.fromkeys((*conversion.types, *recorded))), (), sources, record)
    there = [t for t in conversion.types if t in record.types and conversion.output(t).is_file()]
    damaged = [t for t in there if not _is_sound(conversion.output(t), record.sizes.get(t), check)]
    missing = tuple(t for t in conversion.types if t not in there or t in damaged)
    return _Work(missing, tuple(conversion.output(t) for t in damaged), sources, record)


def _is_sound(path: Path, num_bytes: int | None, check: Callable[[Path], object]) -> bool:
    if num_bytes is not None and path.stat().st_size != num_bytes:
        return False
    try:
        check(path)
    except BadModelFile:
        return False
    return True


def _convert_missing(conversion: Conversion, work: _Work, on_event: OnEvent) -> None:
    if not work.missing:
        return  # another process has done it while this one waited
    for path in work.damaged:
        on_event(StoreEvent(f"{path} is damaged: converting it again"))
    _run_convert(conversion, work.missing, on_event)
    old = work.recorded
    types = tuple(dict.fromkeys((*(old.types if old is not None else ()), *work.missing)))
    made = {t: conversion.output(t).stat().st_size for t in work.missing}
    sizes = {**(old.sizes if old is not None else {}), **made}
    _write_record(
        conversion.directory,
        _ConversionRecord(str(conversion.checkpoint), work.sources, types, sizes),
    )


def _sources(checkpoint: Path) -> dict[str, list[int]]:
    """What `convert` reads, by its path in the checkpoint."""
    paths = [
        path
        for path in checkpoint.iterdir()
        if path.suffix in _SOURCE_SUFFIXES or path.name in _SOURCE_NAMES
    ]
    for pattern in _SOURCES_IN_FOLDERS:
        paths += checkpoint.glob(pattern)
    # a link that leads nowhere is convert's to explain, where it reads that file at all
    stats = {
        str(path.relative_to(checkpoint)): path.stat() for path in sorted(paths) if path.exists()
    }
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _run_convert(conversion: Conversion, types: Sequence[str], on_event: OnEvent) -> None:
    on_event(StoreEvent(f"converting {conversion.checkpoint} to {', '.join(types)}"))
    command = [sys.executable, "-m", "convert", str(conversion.checkpoint.resolve())]
    command += ["--out", str(conversion.directory.resolve())]
    command += ["--types", ",".join(types), "--name", conversion.name, "--json"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        # -m looks into the working directory first: in this folder nothing can be
        # mistaken for convert.
        with subprocess.Popen(
            command,
            cwd=conversion.directory,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        ) as process:
            try:
                error_message = _follow(process, on_event)
                exit_code = process.wait()
            except BaseException:
                _end(process)
                raise
        stderr.seek(0)
        last_lines = "\n".join(stderr.read().strip().splitlines()[-5:])
    if exit_code != 0:
        reason = error_message or last_lines or "no error message"
        text = f"Converting {conversion.checkpoint} failed (exit code {exit_code}): {reason}"
        raise BadModelFile(text) if exit_code == _EXIT_BAD_INPUT else ConversionFailed(text)


def _end(process: subprocess.Popen[str]) -> None:
    """Asks convert to end, which removes what it has not finished;
    kills it if it does not.
    """
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _follow(process: subprocess.Popen[str], on_event: OnEvent) -> str:
    """Passes convert's progress and notes on, one JSON object a line, until it ends;
    returns its error message, if it has one.
    """
    error_message = ""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            report = json.loads(line)
        except ValueError:
            continue  # not a report, so nothing for us: the exit code shows a failure
        if report.get("event") == "progress":
            on_event(
                StoreEvent("converting", int(report["done_bytes"]), int(report["total_bytes"]))
            )
        elif report.get("event") == "done":
            for note in report.get("model_notes", []):
                on_event(StoreEvent(f"note: {note}"))
        elif report.get("event") == "error":
            error_message = str(report["message"])
    return error_message


def _read_record(directory: Path) -> _ConversionRecord | None:
    """None for an absent or unreadable record: then everything is converted anew."""
    try:
        data = json.loads((directory / RECORD_NAME).read_text(encoding="utf-8"))
        if data["format"] != _RECORD_FORMAT:
            return None
        sizes = {str(t): int(size) for t, size in data.get("sizes", {}).items()}
        return _ConversionRecord(
            str(data["checkpoint"]), dict(data["sources"]), tuple(data["types"]), sizes
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_record(directory: Path, record: _ConversionRecord) -> None:
    data = {
        "format": _RECORD_FORMAT,
        "checkpoint": record.checkpoint,
        "sources": record.sources,
        "types": list(record.types),
        "sizes": record.sizes,
    }
    temporary = directory / f".{RECORD_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(directory / RECORD_NAME)
