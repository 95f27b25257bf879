"""How much to compute in each round, so that a search ends within its time.

Knows no process and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.fit.tuning.speeds import PROMPT_TOKENS, Speeds

MAX_DEPTH = 2048
_MIN_PROMPT_ROWS = 64  # attention's quick path begins here
_MIN_STEPS = 3


@dataclass(frozen=True)
class RoundSize:
    """Rows of the prompt, and steps of one stream and
    of all, that are computed in a round.
    """

    prompt_rows: int
    num_steps: int


SMALLEST = RoundSize(_MIN_PROMPT_ROWS, _MIN_STEPS)
SMALL = RoundSize(128, 8)  # enough to tell what differs by much
LARGEST = RoundSize(PROMPT_TOKENS, 32)


def depth(ctx: int, streams: int) -> int:
    """Cells of context before what is measured: half of the longest request, at most
    2,048; as many for each stream.
    """
    return min(MAX_DEPTH, ctx // 2) // streams * streams


def round_size(speeds: Speeds, round_s: float, most: RoundSize) -> RoundSize:
    """What takes about `round_s` seconds at these speeds: up to half of it for the
    prompt, then steps.
    """
    rows = most.prompt_rows
    while rows > _MIN_PROMPT_ROWS and rows * speeds.prompt_token_ms > 1000 * round_s / 2:
        rows //= 2
    left_ms = 1000 * round_s - rows * speeds.prompt_token_ms
    steps = int(left_ms / (speeds.alone_ms + speeds.together_ms))
    return RoundSize(rows, min(max(steps, _MIN_STEPS), most.num_steps))
