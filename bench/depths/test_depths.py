"""What counts as the rate of several streams, and that results become table and picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from appliance.cli.bench.stream import Answer
from bench.depths import picture
from bench.depths.measure import Point, Results, decode_rate


def answer(arrivals_s: list[float], num_tokens: int) -> Answer:
    return Answer(
        label="stream",
        sent_s=0.0,
        arrivals_s=arrivals_s,
        num_prompt_tokens=1,
        num_cached_tokens=None,
        num_tokens=num_tokens,
    )


def test_only_the_time_counts_in_which_all_streams_were_decoding() -> None:
    early = answer([1.0, 2.0, 3.0, 4.0], 4)
    late = answer([2.0, 3.0, 4.0, 5.0], 8)  # two tokens a piece
    assert decode_rate([early, late]) == pytest.approx((2 + 4) / 2.0)


def test_streams_that_never_ran_together_have_no_rate() -> None:
    with pytest.raises(ValueError, match="before the last one began"):
        decode_rate([answer([1.0, 2.0], 2), answer([2.0, 3.0], 2)])


def test_results_become_a_table_and_a_picture(tmp_path: Path) -> None:
    points = [
        Point(
            server=name,
            round_number=1,
            depth=depth,
            num_streams=n,
            tokens_per_s=rate * n,
            foreign_share=0.01,
        )
        for name, rate in (("ours", 20.0), ("other", 10.0))
        for depth in (0, 1000)
        for n in (1, 8)
        if (name, depth, n) != ("other", 1000, 8)
    ]
    results = Results(
        date="2026-01-01",
        machine="CPU",
        num_cpus=2,
        model="model.gguf",
        commands={"ours": "a", "other": "b"},
        points=points,
    )
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    table = picture.markdown(results)
    assert "| 0 | 8 | 160 | 80 |" in table
    assert "| 1,000 | 8 | 160 | - |" in table
    lines = ET.fromstring(picture.svg(results)).findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 2, 2, 1]
