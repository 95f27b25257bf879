"""The conversion itself as a command:
arguments, what is done in which order, the report.

Knows nothing of formats.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.filesize import decimal

from convert.commands.dispatch import EXIT_CODES
from convert.console import print_json, print_line, print_note
from convert.errors import BadInput
from convert.hub.names import hub_name
from convert.importance.wanted import BUILT_IN, DecodeSizes, WantedImportance
from convert.memory import DEFAULT_MAX_RAM_BYTES
from convert.outputs import Importance
from convert.pipeline import Conversion, Job, ScaledAdapter, WrittenFile, default_num_threads
from convert.progress import choose_progress
from convert.quality.evaluate import WINDOW_TOKENS
from convert.quality.gate import check_quality
from convert.recipe import SOURCE, TYPE_NAMES, check_type
from convert.source.folder import folder_name
from convert.tokenizer.verify import verify_vocabulary

DEFAULT_TYPES = "Q8_0,Q4_K_M,Q2_K"
UNWEIGHTED_TYPES = (
    "F32",
    "BF16",
    "F16",
    "Q8_0",
    SOURCE,
)  # an importance matrix changes nothing in them
_FILE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_BYTES_PER = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert",
        description="Convert a Hugging Face checkpoint to GGUF files, all requested types in one "
        "pass. The subcommands `plan`, `importance`, `evaluate` and `lora` (or --lora) have a "
        "--help of their own.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        type=Path,
        help="folder with config.json and the safetensors files; or org/repo[@REVISION] of the "
        "Hugging Face hub (HF_ENDPOINT), whose weights are read from there and not kept: the same "
        "command again goes on where one was ended",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write the GGUF files to"
    )
    parser.add_argument(
        "--types",
        default=DEFAULT_TYPES,
        help=f"comma-separated list of types to write: {', '.join(TYPE_NAMES)} (default: "
        f"{DEFAULT_TYPES})",
    )
    parser.add_argument(
        "--split-max-size",
        metavar="SIZE",
        type=file_size,
        help="cut what would be larger into files of at most SIZE, such as 4G or 500M (powers of "
        "1000, as in llama.cpp's tools), which are called NAME-TYPE-00001-of-00002.gguf and on",
    )
    parser.add_argument("--name", help="name the files NAME-TYPE.gguf (default: the name of SRC)")
    parser.add_argument(
        "--threads",
        type=int,
        default=default_num_threads(),
        help="number of worker threads (default: all cores)",
    )
    parser.add_argument(
        "--max-ram",
        metavar="SIZE",
        type=byte_count,
        default=DEFAULT_MAX_RAM_BYTES,
        help="memory limit of this process, such as 800M or 2G (default: 1.5G); --importance and "
        "--verify-quality decode in a separate process, which maps the model file into its "
        "memory",
    )
    add_drafts(parser)
    _add_changes(parser)
    _add_checks(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per line on standard output"
    )
    return parser


def add_drafts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mtp",
        action="store_true",
        help="also write the layer that predicts one token more (multi-token prediction), with "
        "which `serve --draft mtp` drafts; for Qwen3-Next and Qwen 3.5",
    )


def _add_changes(parser: argparse.ArgumentParser) -> None:
    """What makes other numbers of the weights."""
    parser.add_argument(
        "--importance",
        metavar="FILE",
        help="spend precision on the columns that matter most: FILE is an importance matrix "
        f"(GGUF), or a text to compute one from, which is kept as NAME.imatrix; `{BUILT_IN}` "
        "stands for the text that comes with this program",
    )
    parser.add_argument(
        "--merge-lora",
        metavar="ADAPTER[:SCALE]",
        help="add a LoRA adapter (a folder that PEFT saved) to the weights, times SCALE (default: "
        "1); an adapter that is to stay apart is converted by --lora",
    )


def _add_checks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="before anything is quantized, check that the files will tokenize a sample of texts "
        "as the checkpoint does (default: yes)",
    )
    parser.add_argument(
        "--verify-quality",
        action="store_true",
        help="before publishing the files, compare their predictions with those of the "
        "unquantized model, and reject a file that diverges much more than is usual for its "
        "type",
    )


def run(args: argparse.Namespace) -> None:
    """One conversion. Raises `ConvertError`; then nothing is published."""
    job, name = _job(args), hub_name(args.source)
    if name is None:
        _convert(args, job)
        return
    # imported where it is needed, for a hub's client takes half a second to load
    from convert.hub.streaming import hub_checkpoint

    with hub_checkpoint(name, job.max_ram_bytes, job.num_threads) as found:
        print_note(f"{found.streamed.repo} is read at commit {found.streamed.commit}.")
        _convert(args, replace(job, source=found.folder, streamed=found.streamed))


def _convert(args: argparse.Namespace, job: Job) -> None:
    wanted = None if args.importance is None else WantedImportance.of(args.importance)
    with Conversion(job) as conversion:
        passes = _passes(
            job.types, conversion.stored_type, wanted, verifies_quality=args.verify_quality
        )
        sizes = DecodeSizes(job.num_threads, min(WINDOW_TOKENS, conversion.train_ctx))
        conversion.check_disk(passes.all_types)
        if args.verify:
            with conversion.vocabulary_file() as path:
                verify_vocabulary(conversion.vocabulary, path)
        _write(conversion, passes.first, None if passes.measured_on else _known(wanted), args.json)
        kept_as = job.directory / f"{job.name}.imatrix"
        if passes.measured_on is not None:
            assert wanted is not None
            computed = wanted.compute(
                conversion.path_of(passes.measured_on), kept_as, sizes, args.json
            )
            _write(conversion, passes.second, computed, args.json)
        if passes.reference is not None:
            check_quality(
                conversion.unpublished,
                passes.reference,
                conversion.path_of(passes.reference),
                sizes,
                args.json,
            )
        written = conversion.publish()
        WantedImportance.forget(kept_as)
    _report(written, conversion.notes, _unweighted_notes(job.types, wanted), args)


@dataclass(frozen=True)
class Passes:
    """Which types are written in which pass over the checkpoint.

    `first` may hold types that nobody wants: they are not published.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    measured_on: str | None  # of `first`: its file gives the importance matrix
    reference: str | None  # of `first`: the others are compared with it

    @property
    def all_types(self) -> tuple[str, ...]:
        return (*self.first, *self.second)


def _passes(
    types: Sequence[str],
    stored_type: str,
    wanted: WantedImportance | None,
    *,
    verifies_quality: bool,
) -> Passes:
    reference = measured_on = None
    scratch: list[str] = []
    if verifies_quality:
        reference = stored_type
        scratch.append(reference)
    if wanted is None or wanted.is_known or all(name in UNWEIGHTED_TYPES for name in types):
        return Passes(tuple(dict.fromkeys([*types, *scratch])), (), None, reference)
    measured_on = reference or next(
        (name for name in reversed(UNWEIGHTED_TYPES) if name in types), "Q8_0"
    )
    scratch.append(measured_on)
    first = [*(name for name in types if name in UNWEIGHTED_TYPES), *scratch]
    second = tuple(name for name in types if name not in UNWEIGHTED_TYPES)
    return Passes(tuple(dict.fromkeys(first)), second, measured_on, reference)


def _known(wanted: WantedImportance | None) -> Importance | None:
    return wanted.read() if wanted is not None and wanted.is_known else None


def _write(
    conversion: Conversion, types: Sequence[str], importance: Importance | None, as_json: bool
) -> None:
    with choose_progress(", ".join(types), as_json, print_line) as on_progress:
        conversion.write(types, on_progress, importance)


def _unweighted_notes(types: Sequence[str], wanted: WantedImportance | None) -> list[str]:
    if wanted is not None or "Q2_K" not in types:
        return []
    return [
        "Q2_K was made without an importance matrix, which costs quality: for Llama 3 8B, "
        "llama.cpp's authors measured a divergence from the original of 0.45 nats per token "
        "without one and 0.33 with one. Pass --importance FILE with a text like those the model "
        f"will read, or --importance {BUILT_IN} to use a general one."
    ]


def _job(args: argparse.Namespace) -> Job:
    types = tuple(
        dict.fromkeys(name.strip().upper() for name in args.types.split(",") if name.strip())
    )
    if not types:
        raise BadInput(f"--types must name at least one type (got {args.types!r}).")
    for name in types:
        check_type(name)
    if args.threads < 1:
        raise BadInput(f"--threads must be at least 1 (got {args.threads}).")
    hub = hub_name(args.source)
    name = plain_name(args.name or (folder_name(args.source) if hub is None else hub.folder_name))
    return Job(
        source=args.source,
        directory=args.out,
        name=name,
        types=types,
        num_threads=args.threads,
        max_ram_bytes=args.max_ram,
        drafts=args.mtp,
        adapter=None if args.merge_lora is None else _scaled_adapter(args.merge_lora),
        max_file_bytes=args.split_max_size,
    )


def _scaled_adapter(text: str) -> ScaledAdapter:
    folder, _, scale = text.rpartition(":")
    if folder and not Path(text).exists():
        with contextlib.suppress(ValueError):
            return ScaledAdapter(Path(folder), float(scale))
    return ScaledAdapter(Path(text), 1.0)


def plain_name(name: str) -> str:
    """`name`; raises `BadInput` where it is no plain file name."""
    # nor are bytes that are no UTF-8
    if Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise BadInput(f"--name must be a plain file name (got {name!r}).")
    return name


def byte_count(text: str) -> int:
    """A size with an optional unit
    (K, M, G, with or without iB or B), in powers of 1024.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a size such as 800M or 1.5G (got {text!r})")
    return int(float(match[1]) * _BYTES_PER.get(match[2].upper(), 1))


def file_size(text: str) -> int:
    """A number of bytes with an optional unit (K, M, G), in powers of 1000, as disks and hubs
    have their limits.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)([KMG]?)B?", text.strip(), re.IGNORECASE)
    num_bytes = 0 if match is None else int(float(match[1]) * _FILE_UNITS[match[2].upper()])
    if num_bytes < 1:
        raise argparse.ArgumentTypeError(f"must be a size such as 4G or 500M (got {text!r})")
    return num_bytes


def _report(
    written: Sequence[WrittenFile],
    model_notes: Sequence[str],
    other_notes: Sequence[str],
    args: argparse.Namespace,
) -> None:
    notes = [*model_notes, *other_notes]
    if args.json:
        files = [
            {
                "path": str(file.path),
                "parts": [str(path) for path in file.paths],
                "type": file.type,
                "bytes": file.num_bytes,
                "seconds": file.seconds,
            }
            for file in written
        ]
        print_json(
            event="done",
            files=files,
            verified=args.verify,
            quality_verified=args.verify_quality,
            notes=notes,
            model_notes=model_notes,  # whatever the options
        )
        return
    for note in notes:
        print_note(note)
    for file in written:
        parts = f"  in {len(file.paths)} files" if len(file.paths) > 1 else ""
        print_line(
            f"{file.path}  {file.type}  {decimal(file.num_bytes)}{parts}  {file.seconds:.1f} s"
        )
