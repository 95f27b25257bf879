"""Many requests to a fleet whose machines are killed under it, one after the other.

    python -m bench.fleet.faults --requests 1000 --kills 20

Three machines (network namespaces of this one, so it needs root), each with a replica of the
embedded model. While requests run, six at once, the second and the third machine are killed
in turn, all their processes at once, and started again. Prints what became of the requests,
and what each kill cost: no request may be left without an answer or one error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from tests.fleet.serving.load import ANSWERED, BROKEN, REFUSED, Load, Outcomes
from tests.fleet.serving.machines import Fleet, fleet_of, why_not

_SETTINGS = 'model = ["novels-6m"]\nno_tune = true\nthreads = 1\nbatch_threads = 1'
_AT_ONCE = 6
_REPLICAS = 3


async def kill_in_turn(fleet: Fleet, load: Load, num_kills: int, every: int) -> list[str]:
    """Returns how each went, in words."""
    load.goes_on = True  # until the last kill, however long a machine takes to come back
    running, said = asyncio.create_task(load.run()), list[str]()
    for number in range(num_kills):
        while load.num_done < (number + 1) * every and not running.done():
            await asyncio.sleep(0.02)
        victim = fleet.machines[1 + number % 2]
        refused, began_s = load.outcomes.counts[REFUSED], time.monotonic()
        await asyncio.to_thread(victim.kill)
        await asyncio.to_thread(fleet.start, victim)
        await asyncio.to_thread(fleet.await_replicas, _REPLICAS)
        back_s = time.monotonic() - began_s
        cost = load.outcomes.counts[REFUSED] - refused
        said.append(f"kill {number + 1}: {cost} refused, back after {back_s:.0f} s")
        print(said[-1], file=sys.stderr, flush=True)
    load.goes_on = False
    await running
    return said


def report(outcomes: Outcomes, num_kills: int) -> dict[str, object]:
    return {
        "answered": outcomes.counts[ANSWERED],
        "refused": outcomes.counts[REFUSED],
        "broken": outcomes.counts[BROKEN],
        "kills": num_kills,
        "refused_per_kill": outcomes.counts[REFUSED] / max(num_kills, 1),
        # of so many at once, so many are with the machine that dies
        "share_of_one": _AT_ONCE / _REPLICAS,
        "answers_that_differ": sum(len(texts) > 1 for texts in outcomes.texts.values()),
        "errors": dict(outcomes.errors.most_common(5)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    with fleet_of(_REPLICAS, _SETTINGS) as fleet:
        fleet.start()
        fleet.await_replicas(_REPLICAS)
        load = Load([fleet.head.url], arguments.requests, _AT_ONCE)
        every = arguments.requests // (arguments.kills + 1)
        asyncio.run(kill_in_turn(fleet, load, arguments.kills, every))
    found = report(load.outcomes, arguments.kills)
    print(json.dumps(found, indent=2))
    return 0 if not found["broken"] and not found["answers_that_differ"] else 1


if __name__ == "__main__":
    sys.exit(main())
