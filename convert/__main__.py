"""The command `appliance-convert`: arguments, progress, exit codes. Knows nothing of formats."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.filesize import decimal

from convert.errors import BadInput, ConvertError
from convert.pipeline import Job, WrittenFile, convert, default_num_threads
from convert.progress import choose_progress
from convert.recipe import MIXTURES, find_mixture

DEFAULT_TYPES = "Q8_0,Q4_K_M,Q2_K"


def main(argv: list[str] | None = None) -> int:
    """Runs one conversion. Returns 0 when done, 2 for bad input (arguments included), 1 where the fault is ours."""
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as exit_:  # argparse has written its message or the help
        return exit_.code if isinstance(exit_.code, int) else 2
    try:
        job = _job(args)
        with _terminable(), choose_progress(job.name, args.json, _say) as on_progress:
            written = convert(job, on_progress)
    except ConvertError as error:
        _complain(error, args.json)
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("appliance-convert: interrupted; nothing was kept\n")
        return 130
    _report(written, args.json)
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert",
        description="Converts a Hugging Face checkpoint into GGUF files, all wanted types in one pass.",
        epilog="Exit codes: 0 done, 2 bad input, 1 a fault of this program.",
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
    if Path(name).name != name or name.startswith("."):
        raise BadInput(f"--name {name!r} is no plain file name.")
    return Job(args.source, args.out, name, types, args.threads)


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM unwind the conversion as Ctrl-C does, so that nothing half-written stays behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _report(written: list[WrittenFile], as_json: bool) -> None:
    if as_json:
        files = [
            {"path": str(file.path), "type": file.type, "bytes": file.num_bytes, "seconds": file.seconds}
            for file in written
        ]
        _say_json(event="done", files=files)
        return
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
