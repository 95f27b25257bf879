"""Results as an SVG and as a Markdown table. Knows coordinates; measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from html import escape

from bench.depths.measure import Results

_PANEL_WIDTH, _PANEL_HEIGHT, _GAP = 280, 240, 60
_LEFT, _TOP = 60, 70
_COLORS = ("#1565c0", "#c65102", "#6a1b9a", "#2e7d32", "#616161")
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:14px}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.axis{stroke:#ccc}"
)


def markdown(results: Results) -> str:
    """A row for each depth and number of streams; times ours, where others are slower."""
    names = list(results.commands)
    lines = [
        f"{results.date}, {results.machine}, {results.num_cpus} cores, {results.model}.",
        "",
        "| tokens before | streams | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for depth in results.depths:
        for num_streams in results.stream_counts:
            rates = [results.of(name, depth, num_streams) for name in names]
            if any(rates):
                cells = [f"{statistics.median(each):.0f}" if each else "-" for each in rates]
                lines.append(f"| {depth:,} | {num_streams} | " + " | ".join(cells) + " |")
    worst = max((point.foreign_share for point in results.points), default=0.0)
    lines += [
        "",
        f"Tokens per second of all streams together; others took at most {100 * worst:.1f} % of "
        "the CPU time.",
        "",
        *(f"- {name}: `{line}`" for name, line in results.commands.items()),
    ]
    return "\n".join(lines) + "\n"


def svg(results: Results) -> str:
    """A panel for each depth, a line for each server."""
    depths = results.depths
    width = _LEFT + len(depths) * (_PANEL_WIDTH + _GAP)
    height = _TOP + _PANEL_HEIGHT + 50
    most = max((point.tokens_per_s for point in results.points), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>',
        f'<text class="title" x="16" y="22">{escape(_title(results))}</text>',
        *_legend(results),
    ]
    for number, depth in enumerate(depths):
        left = _LEFT + number * (_PANEL_WIDTH + _GAP)
        parts.extend(_panel(results, depth, left, most))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _title(results: Results) -> str:
    return (
        f"Tokens per second of all streams together: {results.model}, {results.num_cpus} cores "
        f"({results.machine})"
    )


def _legend(results: Results) -> Iterator[str]:
    x = 16
    for name, color in zip(results.commands, _COLORS, strict=False):
        yield f'<rect x="{x}" y="36" width="14" height="4" fill="{color}"/>'
        yield f'<text x="{x + 20}" y="42">{escape(name)}</text>'
        x += 40 + 8 * len(name)


def _panel(results: Results, depth: int, left: int, most: float) -> Iterator[str]:
    bottom = _TOP + _PANEL_HEIGHT
    counts = results.stream_counts

    def x_of(num_streams: int) -> float:
        return left + counts.index(num_streams) / max(len(counts) - 1, 1) * _PANEL_WIDTH

    def y_of(rate: float) -> float:
        return bottom - rate / most * _PANEL_HEIGHT

    words = "nothing before" if depth == 0 else f"{depth:,} tokens of its own before each"
    middle = left + _PANEL_WIDTH / 2
    yield f'<text class="mid" x="{middle}" y="{_TOP - 10}">{words}</text>'
    for step in range(5):
        y = y_of(most * step / 4)
        right = left + _PANEL_WIDTH
        yield f'<line class="axis" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text class="end" x="{left - 6}" y="{y + 4:.1f}">{most * step / 4:.0f}</text>'
    for count in counts:
        yield f'<text class="mid" x="{x_of(count):.1f}" y="{bottom + 18}">{count}</text>'
    yield f'<text class="mid" x="{middle}" y="{bottom + 36}">streams</text>'
    for name, color in zip(results.commands, _COLORS, strict=False):
        found = [(n, rates) for n in counts if (rates := results.of(name, depth, n))]
        points = [(x_of(n), y_of(statistics.median(rates))) for n, rates in found]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points)
        for n, rates in found:  # least to most of the rounds
            x = x_of(n)
            yield (
                f'<line x1="{x:.1f}" y1="{y_of(min(rates)):.1f}" x2="{x:.1f}" '
                f'y2="{y_of(max(rates)):.1f}" stroke="{color}"/>'
            )
