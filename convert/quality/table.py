"""Files of one model and what they lost, as a table for a terminal or in Markdown.

Knows no files and no measuring.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convert.quality.statistics import Estimate
from convert.quality.survey import SurveyedFile

_PLAIN_HEADINGS = ("file", "bytes", "perplexity")
_DIVERGENCE_HEADINGS = ("perplexity ratio", "mean KL (nats)", "99th percentile", "same top token")
_MAX_DECIMALS = 9
# more than its error allows: files are compared on one text, where they err alike
_PERPLEXITY_DECIMALS = 3
_PIPE_WIDTH = 200  # columns where nobody's terminal sets a width


def show_table(rows: Sequence[SurveyedFile]) -> None:
    """Prints `rows` on standard output, the smallest file first."""
    table = Table(caption=caption(rows), caption_justify="left")
    for index, heading in enumerate(_headings(rows)):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    for row in _in_order(rows):
        table.add_row(*(Text(cell) for cell in _cells(row, rows)))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def as_markdown(rows: Sequence[SurveyedFile]) -> str:
    """The same as a Markdown table with its caption below."""
    headings = _headings(rows)
    ruler = [":---", *("---:" for _ in headings[1:])]
    lines = [headings, ruler, *(_cells(row, rows) for row in _in_order(rows))]
    table = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
    return f"{table}\n\n{caption(rows)}\n"


def caption(rows: Sequence[SurveyedFile]) -> str:
    """Under which conditions `rows` were measured."""
    measured = rows[0].measurement
    reference = next(
        (row.measurement.reference for row in rows if row.measurement.reference is not None), None
    )
    windows = "window" if measured.num_windows == 1 else "windows"
    compared = "" if reference is None else f", compared with {reference.name}"
    return (
        f"{measured.num_windows} {windows} of {measured.window_tokens} tokens of "
        f"{measured.text.name}{compared}, {measured.kv_type} KV cache. ± is one standard error."
    )


def show_estimate(estimate: Estimate, scale: float = 1.0, min_decimals: int = 0) -> str:
    """`55.52 ± 0.31`: the error with two digits or more, the value as far."""
    value, error = estimate.value * scale, estimate.standard_error * scale
    decimals = 1 - math.floor(math.log10(error)) if error > 0 else 2
    decimals = min(max(decimals, min_decimals), _MAX_DECIMALS)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _in_order(rows: Sequence[SurveyedFile]) -> list[SurveyedFile]:
    return sorted(rows, key=lambda row: (row.num_bytes, row.path.name))


def _headings(rows: Sequence[SurveyedFile]) -> tuple[str, ...]:
    compares = any(row.measurement.quality.divergence is not None for row in rows)
    return _PLAIN_HEADINGS + (_DIVERGENCE_HEADINGS if compares else ())


def _cells(row: SurveyedFile, rows: Sequence[SurveyedFile]) -> tuple[str, ...]:
    quality = row.measurement.quality
    cells: tuple[str, ...] = (
        row.path.name,
        f"{row.num_bytes:,}",
        show_estimate(quality.perplexity, min_decimals=_PERPLEXITY_DECIMALS),
    )
    if quality.divergence is not None:
        divergence = quality.divergence
        cells += (
            show_estimate(divergence.perplexity_ratio),
            show_estimate(divergence.kl_mean),
            show_estimate(divergence.kl_p99),
        )
        cells += (f"{show_estimate(divergence.top1, scale=100)} %",)
    else:
        cells += ("reference", "", "", "")
    return cells[: len(_headings(rows))]
