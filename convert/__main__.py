"""The command `appliance-convert`: arguments, progress, exit codes, signals. Knows nothing of formats."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.filesize import decimal

from convert.errors import BadInput, ConvertError
from convert.memory import DEFAULT_MAX_RAM_BYTES
from convert.pipeline import Job, WrittenFile, convert, default_num_threads
from convert.progress import choose_progress
from convert.recipe import MIXTURES, find_mixture
from convert.verify import verify_vocabulary
from convert.vocab import Vocabulary

DEFAULT_TYPES = "Q8_0,Q4_K_M,Q2_K"
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BYTES_PER = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _Ended(BaseException):
    """A signal asks us to end. No `Exception`: nothing on the way takes it for a failure of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Checks:
    """What is done between writing and publishing, and what it found worth telling."""

    def __init__(self, verifies: bool) -> None:
        self.verifies = verifies
        self.notes: list[str] = []

    def __call__(self, vocabulary: Vocabulary, paths: Sequence[Path]) -> None:
        if self.verifies:
            verify_vocabulary(vocabulary, paths)
        self.notes = sorted(f"{deviation.value}." for deviation in vocabulary.deviations)


def main(argv: list[str] | None = None) -> int:
    """Runs one conversion. Returns 0 when done, 2 for bad input (arguments included), 1 where the fault is ours.

    A signal that ends it gives 128 and its number, as a shell would.
    """
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as exit_:  # argparse has written its message or the help
        return exit_.code if isinstance(exit_.code, int) else 2
    try:
        job = _job(args)
        checks = _Checks(args.verify)
        with _endable(), choose_progress(job.name, args.json, _say) as on_progress:
            written = convert(job, on_progress, check=checks)
        _report(written, checks, args.json)
    except ConvertError as error:
        _complain(error, args.json)
        return error.exit_code
    except _Ended as ended:
        name = signal.Signals(ended.number).name
        sys.stderr.write(f"appliance-convert: ended by {name}; nothing unfinished was kept\n")
        return 128 + ended.number
    except BrokenPipeError:  # whoever read our lines has gone; what is still in the buffer must not go the same way
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert",
        description="Converts a Hugging Face checkpoint into GGUF files, all wanted types in one pass.",
        epilog="Exit codes: 0 done, 2 bad input, 1 a fault of this program, 128 and its number for a signal.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="directory with config.json and safetensors")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="directory for the GGUF files")
    parser.add_argument(
        "--types",
        default=DEFAULT_TYPES,
        help=f"comma-separated, of {', '.join(MIXTURES)} (default: {DEFAULT_TYPES})",
    )
    parser.add_argument("--name", help="the files are NAME-TYPE.gguf (default: the name of SRC)")
    parser.add_argument(
        "--threads", type=int, default=default_num_threads(), help="worker threads (default: all cores)"
    )
    parser.add_argument(
        "--max-ram",
        metavar="SIZE",
        type=_byte_count,
        default=DEFAULT_MAX_RAM_BYTES,
        help="the most memory this process may hold, such as 800M or 2G (default: 1.5G)",
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="before the files get their names, compare how they and the checkpoint tokenize a sample of texts "
        "(default: yes)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    return parser


def _job(args: argparse.Namespace) -> Job:
    types = tuple(dict.fromkeys(name.strip().upper() for name in args.types.split(",") if name.strip()))
    if not types:
        raise BadInput("--types names no type.")
    for name in types:
        find_mixture(name)
    if args.threads < 1:
        raise BadInput(f"--threads {args.threads}: at least one thread is needed.")
    name = args.name or args.source.resolve().name
    if Path(name).name != name or name.startswith(".") or not name.isprintable():  # nor are bytes that are no UTF-8
        raise BadInput(f"--name {name!r} is no plain file name.")
    return Job(args.source, args.out, name, types, args.threads, args.max_ram)


def _byte_count(text: str) -> int:
    """A size with an optional unit (K, M, G, with or without iB or B), in powers of 1024."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 800M or 1.5G")
    return int(float(match[1]) * _BYTES_PER.get(match[2].upper(), 1))


@contextmanager
def _endable() -> Iterator[None]:
    """Makes signals that end a process unwind the conversion, so that nothing half-written stays behind."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise _Ended(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in _ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # not under nohup
    previous = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _report(written: list[WrittenFile], checks: _Checks, as_json: bool) -> None:
    if as_json:
        files = [
            {"path": str(file.path), "type": file.type, "bytes": file.num_bytes, "seconds": file.seconds}
            for file in written
        ]
        _say_json(event="done", files=files, verified=checks.verifies, notes=checks.notes)
        return
    for note in checks.notes:
        sys.stderr.write(f"appliance-convert: note: {note}\n")
    for file in written:
        _say(f"{file.path}  {file.type}  {decimal(file.num_bytes)}  {file.seconds:.1f} s")


def _complain(error: ConvertError, as_json: bool) -> None:
    sys.stderr.write(f"appliance-convert: {error}\n")
    if as_json:
        _say_json(event="error", kind=error.kind, message=str(error))


def _say_json(**record: Any) -> None:
    _say(json.dumps(record))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
