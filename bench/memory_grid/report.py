"""Sums up predicted against measured memory: a table and a picture.

Knows no servers.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_KV_COLOURS = {"f16": "tab:blue", "q8_0": "tab:orange", "q4_0": "tab:green"}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One server; all sizes in bytes, both processes together."""

    name: str
    shape: str
    held_out: bool  # nothing was known of it when the formulas were made
    kv_type: str
    predicted_anonymous: int
    predicted_mapped: int
    measured_anonymous: int
    measured_mapped: int

    @property
    def predicted(self) -> int:
        return self.predicted_anonymous + self.predicted_mapped

    @property
    def measured(self) -> int:
        return self.measured_anonymous + self.measured_mapped

    @property
    def error(self) -> float:
        """Of the prediction, as a share of what was measured;
        positive where it is too high.
        """
        return self.predicted / self.measured - 1

    def line(self) -> str:
        anonymous = (
            f"{self.predicted_anonymous / _MIB:.1f} for {self.measured_anonymous / _MIB:.1f} MiB "
            "anonymous"
        )
        mapped = (
            f"{self.predicted_mapped / _MIB:.1f} for {self.measured_mapped / _MIB:.1f} MiB mapped"
        )
        return f"{self.name}: {self.error:+.1%} ({anonymous}, {mapped})"


def table(points: Sequence[Point]) -> str:
    """Markdown: one row a shape, then those that the formulas were made with, those
    held out, and all.
    """
    rows = [
        "| shape | servers | measured, MiB | error: median | 95 % | worst | bias |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in dict.fromkeys(point.shape for point in points):
        of_shape = [point for point in points if point.shape == shape]
        rows.append(_row(f"{shape}{' (held out)' if of_shape[0].held_out else ''}", of_shape))
    for name, held_out in (("formulas made with", False), ("**held out**", True)):
        rows.append(_row(name, [point for point in points if point.held_out is held_out]))
    rows.append(_row("all", points))
    return "\n".join(row for row in rows if row)


def _row(name: str, points: Sequence[Point]) -> str:
    if not points:
        return ""
    errors = sorted(abs(point.error) for point in points)
    sizes = sorted(point.measured / _MIB for point in points)
    bias = statistics.mean(point.error for point in points)
    median, high = (
        statistics.median(errors),
        errors[min(len(errors) - 1, round(0.95 * len(errors)))],
    )
    return (
        f"| {name} | {len(points)} | {sizes[0]:.0f} to {sizes[-1]:.0f} | {median:.1%} | "
        f"{high:.1%} | {errors[-1]:.1%} | {bias:+.1%} |"
    )


def draw(points: Iterable[Point], prefix: Path) -> None:
    """Predicted over measured, as PREFIX.svg."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "memory-grid"  # the same picture for the same numbers
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for kv_type, colour in _KV_COLOURS.items():
        for held_out, marker in ((False, "o"), (True, "^")):
            chosen = [p for p in points if p.kv_type == kv_type and p.held_out is held_out]
            label = f"{kv_type} KV{', held out' if held_out else ''}"
            measured = [p.measured / _MIB for p in chosen]
            axes.scatter(
                measured,
                [100 * p.error for p in chosen],
                c=colour,
                marker=marker,
                s=18,
                label=label,
            )
    axes.axhspan(-5, 5, color="0.93", zorder=0)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(
        xlabel="measured peak, MiB", ylabel="prediction is off by, %", xscale="log", ylim=(-10, 10)
    )
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(prefix.with_suffix(".svg"), metadata={"Date": None})
