"""`appliance-convert plan`: arguments and report.

Reads no weights and writes no model, only the headers of some.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from convert.checkpoint import Checkpoint
from convert.commands.convert import DEFAULT_TYPES, add_drafts
from convert.commands.dispatch import EXIT_CODES
from convert.console import print_json, print_line, print_note
from convert.errors import BadInput
from convert.outputs import OutputPlan, plan_output, read_source
from convert.recipe import TYPE_NAMES, check_type
from convert.source.folder import folder_name

HEADER_SUFFIX = ".header"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert plan",
        description="Show how large the GGUF files of a checkpoint would be, to the byte, without "
        "converting it. Only the headers of the safetensors files are read, so the weights "
        "need not be there yet.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "source", metavar="SRC", type=Path, help="folder with config.json and the safetensors files"
    )
    parser.add_argument(
        "--types",
        default=DEFAULT_TYPES,
        help=f"comma-separated list of types: {', '.join(TYPE_NAMES)} (default: {DEFAULT_TYPES})",
    )
    add_drafts(parser)
    parser.add_argument(
        "--headers",
        metavar="DIR",
        type=Path,
        help=f"write each file's header to DIR as TYPE.gguf{HEADER_SUFFIX}",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on standard output"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Raises `ConvertError`."""
    types = tuple(
        dict.fromkeys(name.strip().upper() for name in args.types.split(",") if name.strip())
    )
    for type_name in types:
        check_type(type_name)
    with Checkpoint(args.source) as checkpoint:
        source = read_source(checkpoint, args.source, folder_name(args.source), drafts=args.mtp)
        plans = [
            plan_output(source, Path(f"{type_name}.gguf"), type_name, None) for type_name in types
        ]
    if args.headers is not None:
        _write_headers(plans, args.headers)
    _report(plans, source.notes, args.json)


def _write_headers(plans: Sequence[OutputPlan], directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for plan in plans:
            (directory / f"{plan.path}{HEADER_SUFFIX}").write_bytes(plan.files[0].header)
    except OSError as error:
        raise BadInput(f"{directory} cannot be written to: {error.strerror}.") from error


def _report(plans: Sequence[OutputPlan], notes: Sequence[str], as_json: bool) -> None:
    if as_json:
        files = [{"type": plan.type, "bytes": plan.num_bytes} for plan in plans]
        print_json(event="done", files=files, notes=notes)
        return
    for note in notes:
        print_note(note)
    for plan in plans:
        print_line(f"{plan.type}  {decimal(plan.num_bytes)}")
