"""Results as an SVG: the gains beside what is to be reached, and how a long prompt
looks to three running streams.

Knows coordinates; measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from appliance.cli.bench.figures import Comparison
from bench.load.rounds import OURS, PEER, Measurement, Results
from bench.load.scenarios import SCENARIOS

_WIDTH = 960
_LEFT = 420  # where the drawing begins, right of the labels
_RIGHT = _WIDTH - 30
_ROW = 24
_BAR = 12
_LEAST_GAIN, _MOST_GAIN = 0.1, 100.0  # the gain axis; what lies beyond is drawn at its end
_COLORS = {OURS: "#1565c0", PEER: "#c65102"}
_REACHED, _MISSED = "#2e7d32", "#9e9e9e"
_STYLE = (
    "text{font:12px "
    "sans-serif;fill:#222}.title{font-weight:bold;font-size:14px}.end{text-anchor:end}.mid{text-anchor:middle}.axis{stroke:#ccc}.one{stroke:#666}.to-reach{stroke:#222;stroke-width:2}.spread{stroke:#222;stroke-width:1}"
)


def svg(results: Results) -> str:
    gains = list(_gain_rows(results))
    top = 40
    axis_y = top + _ROW * len(gains)
    timeline_y = axis_y + 70
    height = timeline_y + 9 * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 '
        f'{_WIDTH} {height}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>',
        _text(
            16,
            22,
            "Times better than the peer (bar; green: reached), over the rounds (line), "
            "target (mark)",
            "title",
        ),
        *_gain_axis(top, axis_y),
        *(line for number, row in enumerate(gains) for line in _gain_bar(row, top + _ROW * number)),
        *_timeline(results, timeline_y),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _gain_rows(results: Results) -> Iterator[tuple[str, Comparison]]:
    for scenario in SCENARIOS:
        for each in results.comparisons(scenario):
            if each.figure.least_gain is not None:
                yield f"{scenario.title}: {each.figure.words}", each


def _gain_axis(top: int, bottom: int) -> Iterator[str]:
    for gain in (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100):
        x = _gain_x(gain)
        yield _line(x, top, x, bottom, "one" if gain == 1 else "axis")
        yield _text(x, bottom + 16, f"{gain:g}", "mid")


def _gain_bar(row: tuple[str, Comparison], y: int) -> Iterator[str]:
    label, each = row
    middle = y + _ROW / 2
    yield _text(_LEFT - 10, middle + 4, label, "end")
    start, end = sorted((_gain_x(1), _gain_x(each.gain.median)))
    color = _REACHED if each.is_reached else _MISSED
    yield (
        f'<rect x="{start:.1f}" y="{middle - _BAR / 2}" width="{end - start:.1f}" '
        f'height="{_BAR}" fill="{color}"/>'
    )
    yield _line(_gain_x(each.gain.least), middle, _gain_x(each.gain.most), middle, "spread")
    assert each.figure.least_gain is not None
    x = _gain_x(each.figure.least_gain)
    yield _line(x, middle - _ROW / 2 + 2, x, middle + _ROW / 2 - 2, "to-reach")


def _gain_x(gain: float) -> float:
    clamped = min(max(gain, _LEAST_GAIN), _MOST_GAIN)
    share = math.log(clamped / _LEAST_GAIN) / math.log(_MOST_GAIN / _LEAST_GAIN)
    return _LEFT + share * (_RIGHT - _LEFT)


def _timeline(results: Results, y: int) -> Iterator[str]:
    """The last round's long prompt: a tick for each piece of text as it arrived, a row
    for each answer.
    """
    last = [
        (name, found[-1]) for name in (OURS, PEER) if (found := results.of("long_prompt", name))
    ]
    if not last:
        return
    most_s = max(answer.ended_s for _, each in last for answer in each.answers)
    yield _text(
        16,
        y - 16,
        f"A long prompt into 3 running streams: when text arrived, 0 to {most_s:.1f} s",
        "title",
    )
    for number, (name, each) in enumerate(last):
        yield from _answers(name, each, y + 4 * _ROW * number, most_s)


def _answers(name: str, measurement: Measurement, y: int, most_s: float) -> Iterator[str]:
    def x_of(at_s: float) -> float:
        return _LEFT + at_s / most_s * (_RIGHT - _LEFT)

    for number, answer in enumerate(measurement.answers):
        top = y + _ROW * number
        yield _text(_LEFT - 10, top + _ROW / 2 + 4, f"{name}, {answer.label}", "end")
        ticks = "".join(f"M{x_of(at_s):.1f} {top + 4}v{_ROW - 8}" for at_s in answer.arrivals_s)
        yield f'<path d="{ticks}" stroke="{_COLORS[name]}" stroke-width="1"/>'
        yield f'<circle cx="{x_of(answer.sent_s):.1f}" cy="{top + _ROW / 2}" r="3" fill="#222"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
