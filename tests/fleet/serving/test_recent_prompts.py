"""What a replica tells of the prompts that have just come."""

from __future__ import annotations

from appliance.fleet.routing import fingerprints
from appliance.fleet.serving.recent_prompts import RecentPrompts, unpacked

LONG = fingerprints([*range(640)])
OTHER = fingerprints([*range(1000, 1640)])


def test_prompts_are_told_for_some_seconds() -> None:
    now_s = 0.0
    recent = RecentPrompts(lambda: now_s)
    recent.add(LONG)
    now_s = 3.0
    recent.add(OTHER)
    assert unpacked(recent.packed()) == [LONG, OTHER]
    now_s = 6.0
    assert unpacked(recent.packed()) == [OTHER]
    now_s = 9.0
    assert recent.packed() == ()


def test_a_state_stays_short() -> None:
    recent = RecentPrompts(lambda: 0.0)
    recent.add([])  # shorter than a block
    assert recent.packed() == ()
    for first in range(100):
        recent.add(fingerprints([*range(first, first + 640)]))
    # 10 blocks of 8 bytes each: 51 prompts in 4,096 bytes, the newest
    assert [*map(len, recent.packed())] == [80] * 51
    assert unpacked(recent.packed())[-1] == fingerprints([*range(99, 739)])


def test_of_a_prompt_that_is_too_long_its_beginning_is_told() -> None:
    recent = RecentPrompts(lambda: 0.0)
    prints = fingerprints([*range(64 * 1000)])
    recent.add(prints)
    assert unpacked(recent.packed()) == [prints[:512]]
