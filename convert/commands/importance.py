"""`appliance-convert importance`: arguments and report. Knows neither models nor files' formats."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

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
        description="Finds out how much each column of a model's weights matters, so that a "
        "quantization can spare those that matter most. The file is an importance "
        "matrix as llama.cpp reads and writes them.",
        epilog="A run that is ended goes on where it was when it is started again. Exit codes: 0 "
        "done, 2 bad input, 1 a fault of this program, 128 and its number for a signal.",
    )
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="a GGUF; the finer its type, the better"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the importance matrix, a GGUF"
    )
    parser.add_argument(
        "--text",
        metavar="FILE",
        type=Path,
        default=CALIBRATION_TEXT,
        help="UTF-8 text of the kind the model is for (default: a built-in one, a little of "
        "everything)",
    )
    parser.add_argument(
        "--chunks", metavar="N", type=int, help="read at most so many chunks (default: all)"
    )
    parser.add_argument(
        "--chunk-tokens",
        metavar="N",
        type=int,
        default=DEFAULT_CHUNK_TOKENS,
        help=f"tokens that are read together (default: {DEFAULT_CHUNK_TOKENS})",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        default=default_num_threads(),
        help="(default: all cores)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per line on standard output"
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
            f"{num_unseen} of {len(counts)} matrices were sent no token (experts that the text "
            "does not need); all their columns weigh the same. A longer or more varied text "
            "reaches more."
        )
    print_line(
        f"{out}  {len(matrix.entries)} weights  {matrix.chunk_count} chunks  {seconds:.1f} s"
    )
