"""The guide's table of quantized sources is the code's."""

from __future__ import annotations

from pathlib import Path

from convert.dequantize.schemes import SCHEMES

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "convert.md"


def test_the_guide_lists_every_scheme() -> None:
    titles = "| Source | `quant_method` | What is read | Kept without rounding as |"
    _, _, table = GUIDE.read_text(encoding="utf-8").partition(f"{titles}\n|---|---|---|---|\n")
    rows = [
        f"| {scheme.title} | `{scheme.method}` | {scheme.reads} | {scheme.kept_as} |"
        for scheme in SCHEMES
    ]
    assert table.partition("\n\n")[0].splitlines() == rows
