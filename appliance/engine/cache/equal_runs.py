"""Runs of equal tokens that two prompts have in different places.

Knows no cells.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.cache.host_prefixes import num_common

_MAX_PLACES = 4  # tried of those where a text begins alike: what repeats itself has many


@dataclass(frozen=True)
class Run:
    """Equal tokens: `first` is where they begin in what is known, `target` where in the
    prompt.
    """

    first: int
    target: int
    num_tokens: int

    @property
    def last(self) -> int:
        """Behind them, in what is known."""
        return self.first + self.num_tokens


def equal_runs(
    known: list[int], first: int, prompt: list[int], start: int, min_tokens: int
) -> list[Run]:
    """Runs of at least `min_tokens` of `known` from `first` on that `prompt` has too,
    from `start` on and in the same order; never with the prompt's last token.

    Each run of so many tokens holds a whole block of half as many from a multiple of
    that number on: only these blocks are looked up.
    """
    most = len(prompt) - 1
    block = (min_tokens + 1) // 2
    places = _places(known, first, block)
    keys = array("i", prompt).tobytes()
    width = array("i").itemsize
    runs: list[Run] = []
    at, lowest = start, start
    while at + block <= most:
        found = places.get(keys[at * width : (at + block) * width], ())
        first = runs[-1].last if runs else first
        candidates = [
            _extended(known, place, prompt, at, lowest=lowest, first=first, most=most)
            for place in found
            if place >= first
        ][:_MAX_PLACES]
        run = max(candidates, key=lambda run: run.num_tokens, default=None)
        if run is not None and run.num_tokens >= min_tokens:
            runs.append(run)
            at = lowest = run.target + run.num_tokens
        else:
            at += 1
    return runs


def _places(known: Seq[int], first: int, block: int) -> dict[bytes, list[int]]:
    """Where each block of tokens is, of those at multiples of its length behind `first`."""
    keys = array("i", known).tobytes()
    width = array("i").itemsize
    places: dict[bytes, list[int]] = {}
    for place in range(first, len(known) - block + 1, block):
        places.setdefault(keys[place * width : (place + block) * width], []).append(place)
    return places


def _extended(
    known: list[int], place: int, prompt: list[int], at: int, *, lowest: int, first: int, most: int
) -> Run:
    """The run around a place where both agree."""
    num_before = num_common(
        known[first:place][::-1], prompt[lowest:at][::-1], min(place - first, at - lowest)
    )
    num_behind = num_common(known[place:], prompt[at:], most - at)
    return Run(place - num_before, at - num_before, num_before + num_behind)
