"""Draws the size of each file of one model against what it lost. Knows no measuring.

matplotlib is imported only when a picture is drawn; it comes with the extra `plots`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from convert.errors import BadInput
from convert.quality.statistics import Estimate
from convert.quality.survey import SurveyedFile
from convert.quality.table import caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES = (8.0, 5.0)
_DOTS_PER_INCH = 150
_MB = 1e6
# sizes that differ less lie one above the other: their labels go to different sides
_SAME_SIZE = 0.01
_LABEL_PLACES: tuple[tuple[tuple[int, int], Literal["left", "right"]], ...] = (
    ((8, 4), "left"),
    ((-8, 4), "right"),
    ((-8, -12), "right"),
)


def require_matplotlib() -> None:
    """Raises `BadInput` where it is not installed:
    better before measuring for hours than after.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BadInput(
            "Drawing a picture needs matplotlib, which is not installed. Run: pip install "
            "'appliance[plots]'"
        )


def draw(rows: Sequence[SurveyedFile], prefix: Path) -> list[Path]:
    """Writes PREFIX.svg and PREFIX.png. Raises `BadInput` if that fails."""
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "appliance"}):  # the same numbers give the same file
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        _plot(rows, figure.add_subplot())
        paths = [prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("svg", "png")]
        try:
            figure.savefig(paths[0], metadata={"Date": None})
            figure.savefig(paths[1], dpi=_DOTS_PER_INCH)
        except OSError as error:
            raise BadInput(f"{prefix} cannot be written: {error.strerror}.") from error
    return paths


def _plot(rows: Sequence[SurveyedFile], axes: Axes) -> None:
    """KL divergence where there was a reference,
    which is not shown itself, else perplexity.
    """
    shown = [(row, estimate) for row in rows if (estimate := _loss(row, rows)) is not None]
    names = _short_names([row for row, _ in shown])
    for at, ((row, estimate), name) in enumerate(zip(shown, names, strict=True)):
        megabytes = row.num_bytes / _MB
        axes.errorbar(
            megabytes,
            estimate.value,
            yerr=estimate.standard_error,
            fmt="o",
            color="tab:blue",
            capsize=3,
        )
        num_beside = sum(
            abs(other.num_bytes / row.num_bytes - 1) < _SAME_SIZE for other, _ in shown[:at]
        )
        offset, side = _LABEL_PLACES[num_beside % len(_LABEL_PLACES)]
        axes.annotate(
            name,
            (megabytes, estimate.value),
            xytext=offset,
            ha=side,
            textcoords="offset points",
            parse_math=False,
        )
    if all(estimate.value > 0 for _, estimate in shown):
        axes.set_yscale("log")
    axes.set_xlabel("file size, MB")
    axes.set_ylabel(
        "mean KL divergence from the reference, nats per token" if _compares(rows) else "perplexity"
    )
    axes.set_title(caption(rows), fontsize="small", parse_math=False)
    axes.margins(x=0.1, y=0.1)
    axes.grid(visible=True, which="both", alpha=0.3)


def _compares(rows: Sequence[SurveyedFile]) -> bool:
    return any(row.measurement.quality.divergence is not None for row in rows)


def _loss(row: SurveyedFile, rows: Sequence[SurveyedFile]) -> Estimate | None:
    """None for the reference among files that were compared with it."""
    quality = row.measurement.quality
    if quality.divergence is not None:
        return quality.divergence.kl_mean
    return None if _compares(rows) else quality.perplexity


def _short_names(rows: Sequence[SurveyedFile]) -> list[str]:
    """File names without the words that all begin with: `novels-Q4_K_M`, `novels-Q2_K`
    give `Q4_K_M`, `Q2_K`.
    """
    words = [row.path.stem.split("-") for row in rows]
    while len(words) > 1 and all(len(parts) > 1 and parts[0] == words[0][0] for parts in words):
        words = [parts[1:] for parts in words]
    return ["-".join(parts) for parts in words]
