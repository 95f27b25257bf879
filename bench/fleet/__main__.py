"""A fleet of small nodes on this machine, measured, and simulated with what its nodes measured
of themselves.

    python -m bench.fleet run --nodes 2 --out OUT [MODEL]   # an idle machine, some minutes
    python -m bench.fleet ray --nodes 2 --out OUT [MODEL]   # the same, of `appliance fleet serve`
    python -m bench.fleet compare OUT/*.json                # any time
    python -m bench.fleet scale --out FILE.svg              # what stands in front of many nodes

`run` and `ray` need root, for the nodes' shares of the cores. They start the nodes once for
each --policy, ask what a simulation of the same --seed asks, and write OUT/POLICY-N.json.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from appliance.cli.bench.stream import Endpoint, RequestFailed
from appliance.errors import BadSettings
from appliance.fleet.capacity import seconds_per_request
from appliance.fleet.demand import Demand
from appliance.fleet.measured import REACH_MS
from appliance.fleet.routing import Policy
from bench.fleet import nodes, on_ray, results, scale
from bench.fleet.asking import Answered, Asking, Doors, RoutedHere, Way, idle_reach_ms
from bench.fleet.results import Measured, NodeRecord
from bench.fleet.shares import Share, machine_words, shares
from bench.fleet.words import pieces, some_text, tokens_of
from bench.load.servers import ServerFailed
from bench.model_file import model_file


def main(argv: list[str]) -> int:
    given = _parser().parse_args(argv)
    if given.action == "compare":
        for path in given.results:
            print(results.comparison(results.load(path)), end="\n\n")
        return 0
    if given.action == "scale":
        return scale.run(given)
    # so that the nodes are stopped
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        with shares(given.nodes) as found:
            for policy in map(Policy, given.policy):
                measured = _measure(given, policy, found)
                measured.save(given.out / f"{policy.value}-{given.nodes}.json")
                print(f"{policy.value}: {measured.tokens_per_s:.1f} tokens/s", file=sys.stderr)
    except (ServerFailed, RequestFailed, BadSettings) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(given: argparse.Namespace, policy: Policy, found: list[Share]) -> Measured:
    demand = Demand(
        requests_per_day=1,
        prompt_tokens=given.prompt,
        answer_tokens=given.answer,
        turns=given.turns,
        system_tokens=given.system,
        think_s=given.think_s,
    )
    measure = _measure_on_ray if given.action == "ray" else _measure_nodes
    per_s, answers, after = measure(given, policy, found, demand)
    return Measured(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        machine=machine_words(),
        num_nodes=len(found),
        cores=found[0].cores,
        policy=policy,
        demand=demand,
        per_s=per_s,
        seed=given.seed,
        answers=answers,
        nodes=after,
    )


def _measure_nodes(
    given: argparse.Namespace, policy: Policy, found: list[Share], demand: Demand
) -> tuple[float, list[Answered], list[NodeRecord]]:
    """Requests a second, their answers, and what the nodes measured of themselves."""
    folder = given.out.resolve() / f"nodes-{given.nodes}"
    flags = ("--ctx", str(given.ctx), "--slots", str(given.slots))
    with nodes.fleet(given.model, found, folder, flags) as servers:
        endpoints = [server.endpoint for server in servers]
        known = nodes.measured(given.model, given.nodes, folder)
        per_s = given.per_s or sum(given.busy / seconds_per_request(demand, n) for n in known)
        way = RoutedHere(policy, known, given.seed)
        answers = _answers(given, demand, endpoints, way, per_s)
    after = nodes.measured(given.model, given.nodes, folder)
    reach_ms = idle_reach_ms(answers) or REACH_MS
    return per_s, answers, [NodeRecord.of(each, reach_ms) for each in after]


def _measure_on_ray(
    given: argparse.Namespace, policy: Policy, found: list[Share], demand: Demand
) -> tuple[float, list[Answered], list[NodeRecord]]:
    """The same; the nodes keep to themselves what they measured."""
    settings = {"ctx": given.ctx, "slots": given.slots}
    with on_ray.fleet(given.model, found, policy, settings) as doors:
        way = Doors(len(doors), in_turn=given.doors_in_turn)
        return given.per_s, _answers(given, demand, doors, way, given.per_s), []


def _answers(
    given: argparse.Namespace,
    demand: Demand,
    endpoints: Sequence[Endpoint],
    way: Way,
    per_s: float,
) -> list[Answered]:
    words = pieces(tokens_of(some_text(), endpoints[0]))
    asking = Asking(demand, endpoints, way, words=words, seed=given.seed)
    return asyncio.run(asking.run(given.requests, per_s))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="measure nodes")
    _add_measure(run)
    run.add_argument("--per-s", type=float, help="requests (default: by --busy)")
    run.add_argument(
        "--busy",
        type=float,
        default=0.6,
        help="share of the nodes' time that requests take, by the formula (default: %(default)s)",
    )
    ray = actions.add_parser("ray", help="measure `appliance fleet serve`")
    _add_measure(ray)
    ray.add_argument("--per-s", type=float, required=True, help="requests")
    ray.add_argument(
        "--doors-in-turn",
        action="store_true",
        help="each request of a chat at another door, as behind a balancer",
    )
    _add_scale(actions.add_parser("scale", help="where routers and doors become the limit"))
    compare = actions.add_parser("compare", help="simulate what was measured")
    compare.add_argument("results", nargs="+", type=Path)
    return parser


def _add_measure(run: argparse.ArgumentParser) -> None:
    run.add_argument("model", nargs="?", type=model_file, default="smollm2-135m")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--policy", nargs="+", default=["prefix"], choices=[p.value for p in Policy])
    for flag, value in (
        ("--nodes", 2),
        ("--requests", 150),
        ("--seed", 1),
        ("--ctx", 2048),
        ("--slots", 4),
        ("--system", 100),
        ("--prompt", 60),
        ("--answer", 32),
        ("--turns", 4),
    ):
        run.add_argument(flag, type=int, default=value, help="default: %(default)s")
    run.add_argument("--think-s", type=float, default=4.0, help="default: %(default)s")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="draws it there")
    parser.add_argument("--answer", type=int, default=200, help="tokens (default: %(default)s)")
    for flag, value, text in (
        ("--node-s", 1.0, "seconds of a node for a request, as `fleet plan` says"),
        ("--door-request-ms", 3.0, "assumed: of a door's thread for a request"),
        ("--door-token-ms", 0.1, "assumed: and for each token"),
        ("--head-node-ms", 1.0, "assumed: of Ray's head each second, for each node"),
    ):
        parser.add_argument(flag, type=float, default=value, help=f"{text} (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
