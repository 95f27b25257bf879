"""Plays the depth controller against made-up step times and made-up acceptance; time is
counted, not spent.

Run: python -m tests.engine.drafting.speculation_simulator

Prints, for each curve, acceptance and number of streams, the time without drafts over
the time with them, and the same for the best constant depth. The same numbers are what
the tests hold to their bounds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from appliance.engine.cost import AttentionCost, StepCost, StepShape
from appliance.engine.curve import ROWS
from appliance.engine.drafting.depth import DepthController
from appliance.engine.drafting.offers import DraftAlternative, DraftOffer, StepContext

NUM_TOKENS = 300
MOST_DEPTH = 16
MOST_ROWS = 32
NOISE = 0.05
REBUILDING = 1.05  # a step with other rows than the one before: llama.cpp builds its graph anew

Curve = Callable[[int], float]
# Milliseconds by rows: weights are read once; then every row costs; kernels for whole
# tiles make cliffs and plateaus.
CURVES: dict[str, Curve] = {
    "memory bound": lambda rows: 20 + 0.2 * rows,
    "linear": lambda rows: 2 + 18 * rows,
    "half and half": lambda rows: 10 + 10 * rows,
    "flat to 4, then a cliff": lambda rows: 20.0 if rows <= 4 else 20 * rows,
    "plateaus of 8": lambda rows: 20.0 if rows == 1 else 45.0 * -(-rows // 8),
}


@dataclass(frozen=True)
class Acceptance:
    """The chance of each drafted token, by (slot, tokens written so far), and whether
    anything is offered.
    """

    chance: Callable[[int, int], float]
    offered: Callable[[int, int], bool] = lambda _slot, _written: True


ACCEPTANCES: dict[str, Acceptance] = {
    "always right": Acceptance(lambda _slot, _written: 1.0),
    "good": Acceptance(lambda _slot, _written: 0.9),
    "fair": Acceptance(lambda _slot, _written: 0.6),
    "poor": Acceptance(lambda _slot, _written: 0.2),
    "always wrong": Acceptance(lambda _slot, _written: 0.0),
    "good, then wrong": Acceptance(lambda _slot, written: 0.95 if written < 100 else 0.0),
    "wrong, then good": Acceptance(lambda _slot, written: 0.0 if written < 100 else 0.95),
    "by turns": Acceptance(lambda _slot, written: 0.95 if written // 20 % 2 else 0.0),
    "one of the streams": Acceptance(lambda slot, _written: 0.95 if slot == 0 else 0.0),
    "seldom offered, wrong": Acceptance(
        lambda _slot, _written: 0.0, lambda _slot, written: written % 7 == 0
    ),
}


def time_ms(
    curve: Curve,
    acceptance: Acceptance,
    num_streams: int,
    seed: int,
    constant: int | None = None,
    plain_error: float = 1.0,
) -> float:
    """Until every stream has written `NUM_TOKENS`,
    with the controller or with a constant depth.

    `plain_error`: so many times what they take, steps without drafts are believed to
    take at first.
    """
    rng = random.Random(seed)
    cost, controller = StepCost(AttentionCost(0.03)), DepthController()
    for rows in ROWS:
        cost.observe(
            StepShape(rows, 0.0), curve(rows) * (plain_error if rows <= num_streams else 1.0)
        )
    written = dict.fromkeys(range(num_streams), 0)
    total_ms, last_num_rows = 0.0, num_streams
    while written:
        depths = _depths(written, acceptance, cost, controller, constant)
        accepted = {}
        for slot, depth in depths.items():
            chance = acceptance.chance(slot, written[slot])
            accepted[slot] = next((at for at in range(depth) if rng.random() >= chance), depth)
        num_rows = len(written) + sum(depths.values())
        elapsed_ms = curve(num_rows) * rng.uniform(1 - NOISE, 1 + NOISE)
        if num_rows != last_num_rows:
            elapsed_ms *= REBUILDING
        total_ms += elapsed_ms
        expected_ms = cost.estimate_ms(StepShape(num_rows, 0.0)) or 0.0
        if depths or num_rows == last_num_rows:
            cost.observe(StepShape(num_rows, 0.0), elapsed_ms)
        last_num_rows = num_rows
        if constant is None and depths:
            controller.observe(dict.fromkeys(depths, 2), depths, accepted, elapsed_ms, 0.0)
        else:
            controller.observe_without(elapsed_ms, 0.0, expected_ms)
        for slot in written:
            written[slot] += 1 + accepted.get(slot, 0)
        for slot in [slot for slot, count in written.items() if count >= NUM_TOKENS]:
            del written[slot]
            controller.release(slot)
    return total_ms


def _depths(
    written: dict[int, int],
    acceptance: Acceptance,
    cost: StepCost,
    controller: DepthController,
    constant: int | None,
) -> dict[int, int]:
    most = {slot: min(MOST_DEPTH, NUM_TOKENS - count - 1) for slot, count in written.items()}
    offers = [
        DraftOffer(slot, most[slot], 2)
        for slot, count in written.items()
        if acceptance.offered(slot, count)
    ]
    if constant is not None:
        return {offer.slot: min(constant, offer.num_tokens) for offer in offers if constant}

    def step_ms(num_drafted: int) -> float:
        return cost.estimate_ms(StepShape(len(written) + num_drafted, 0.0)) or 0.0

    if controller.wants_comparison(len(written)) or not offers or not controller.may_draft():
        return {}
    decision = controller.choose(
        StepContext(list(written), MOST_ROWS, step_ms(0), step_ms), [DraftAlternative(offers)]
    )
    return decision.depths if decision else {}


def ratio(
    curve: Curve,
    acceptance: Acceptance,
    num_streams: int,
    constant: int | None = None,
    num_seeds: int = 3,
) -> float:
    """Time without drafts over time with them, over some seeds."""
    without = sum(
        time_ms(curve, acceptance, num_streams, seed, constant=0) for seed in range(num_seeds)
    )
    return without / sum(
        time_ms(curve, acceptance, num_streams, seed, constant) for seed in range(num_seeds)
    )


def best_constant(curve: Curve, acceptance: Acceptance, num_streams: int) -> float:
    """The ratio of the best of some constant depths."""
    depths = [depth for depth in (0, 1, 2, 3, 4, 7, 15) if num_streams * depth <= MOST_ROWS]
    return max(ratio(curve, acceptance, num_streams, depth, 1) for depth in depths)


def main() -> None:
    for curve_name, curve in CURVES.items():
        for name, acceptance in ACCEPTANCES.items():
            cells = []
            for num_streams in (1, 2, 4, 8):
                best = best_constant(curve, acceptance, num_streams)
                cells.append(f"{ratio(curve, acceptance, num_streams):6.3f} of {best:6.3f}")
            print(f"{curve_name:24} {name:22}", " | ".join(cells), file=sys.stdout)


if __name__ == "__main__":
    main()
