"""`appliance-convert importance`: arguments and report.

Knows neither models nor files' formats.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from convert.commands.dispatch import EXIT_CODES
from convert.console import print_json, print_line, print_note
from convert.counted_progress import choose_counted_progress
from convert.importance.imatrix_file import ImportanceMatrix
from convert.importance.matrix import (
    CALIBRATION_TEXT,
    DEFAULT_CHUNK_TOKENS,
    ImportanceJob,
    compute_importance,
)
from convert.pipeline import default_num_threads


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert importance",
        description="Measure how much each column of a model's weights matters, so that "
        "quantization can keep those that matter most exact. The result is an importance "
        "matrix in llama.cpp's own format.",
        epilog="A run that was stopped continues where it was when you start it again. "
        f"{EXIT_CODES}",
    )
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="a GGUF file; the more exact its type, the better"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="file to write the importance matrix to (GGUF)",
    )
    parser.add_argument(
        "--text",
        metavar="FILE",
        type=Path,
        default=CALIBRATION_TEXT,
        help="UTF-8 text of the kind the model is for (default: a built-in text with a little of "
        "everything)",
    )
    parser.add_argument(
        "--chunks", metavar="N", type=int, help="read at most N chunks of the text (default: all)"
    )
    parser.add_argument(
        "--chunk-tokens",
        metavar="N",
        type=int,
        default=DEFAULT_CHUNK_TOKENS,
        help=f"tokens per chunk (default: {DEFAULT_CHUNK_TOKENS})",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        default=default_num_threads(),
        help="number of threads (default: all cores)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per line on standard output"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Raises `ConvertError`."""
    job = ImportanceJob(
        model=args.model,
        text=args.text,
        out=args.out,
        threads=args.threads,
        chunk_tokens=args.chunk_tokens,
        max_chunks=args.chunks,
    )
    started = time.monotonic()
    with choose_counted_progress(args.model.name, "chunks", args.json, print_line) as on_progress:
        matrix = compute_importance(job, on_progress)
    _report(args.out, matrix, time.monotonic() - started, args.json)


def _report(out: Path, matrix: ImportanceMatrix, seconds: float, as_json: bool) -> None:
    counts = [count for entry in matrix.entries.values() for count in entry.counts.tolist()]
    num_unseen = counts.count(0)
    if as_json:
        print_json(
            event="done",
            path=str(out),
            weights=len(matrix.entries),
            chunks=matrix.chunk_count,
            chunk_tokens=matrix.chunk_size,
            experts_unseen=num_unseen,
            seconds=round(seconds, 3),
        )
        return
    if num_unseen:
        print_note(
            f"{num_unseen} of {len(counts)} matrices never received a token (experts that the "
            "text does not use), so all their columns count the same. A longer or more varied "
            "text reaches more of them."
        )
    print_line(
        f"{out}  {len(matrix.entries)} weights  {matrix.chunk_count} chunks  {seconds:.1f} s"
    )
