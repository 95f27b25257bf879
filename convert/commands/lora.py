"""`appliance-convert lora`: a LoRA adapter to a GGUF of its own. Knows no formats."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.filesize import decimal

from convert.adapters.lora_file import write_adapter
from convert.adapters.peft import PeftAdapter
from convert.checkpoint import Checkpoint
from convert.commands.convert import byte_count, plain_name
from convert.commands.dispatch import EXIT_CODES
from convert.console import print_json, print_line
from convert.errors import BadInput
from convert.memory import DEFAULT_MAX_RAM_BYTES
from convert.pipeline import default_num_threads
from convert.source.folder import folder_name


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert lora",
        description="Convert a LoRA adapter, as PEFT saves it, to a GGUF that is applied to a "
        "model's GGUF while it is served. The first word may also be --lora.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        type=Path,
        help="folder with adapter_config.json and adapter_model.safetensors",
    )
    parser.add_argument(
        "--base",
        metavar="SRC",
        type=Path,
        required=True,
        help="folder of the checkpoint that the adapter is for; only its headers are read",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write the GGUF file to"
    )
    parser.add_argument("--name", help="name the file NAME.gguf (default: the name of ADAPTER)")
    parser.add_argument(
        "--max-ram",
        metavar="SIZE",
        type=byte_count,
        default=DEFAULT_MAX_RAM_BYTES,
        help="memory limit of this process, such as 800M or 2G (default: 1.5G)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on standard output"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Raises `ConvertError`; then nothing is left."""
    name = plain_name(args.name or folder_name(args.adapter))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{args.out} cannot be created: {error.strerror}.") from error
    with PeftAdapter(args.adapter) as adapter, Checkpoint(args.base) as base:
        written = write_adapter(
            adapter,
            base,
            args.out / f"{name}.gguf",
            name=name,
            num_threads=default_num_threads(),
            max_ram_bytes=args.max_ram,
        )
    if args.json:
        print_json(
            event="done",
            path=str(written.path),
            bytes=written.num_bytes,
            modules=written.num_modules,
            alpha=written.alpha,
        )
        return
    print_line(f"{written.path}  LoRA  {written.num_modules} modules  {decimal(written.num_bytes)}")
