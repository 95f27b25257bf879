"""A fleet of small nodes on this machine, measured, and simulated with what its nodes measured
of themselves.

    python -m bench.fleet run --nodes 2 --out OUT [MODEL]   # an idle machine, some minutes
    python -m bench.fleet compare OUT/*.json                # any time
    python -m bench.fleet scale --out FILE.svg              # what stands in front of many nodes

`run` needs root, for the nodes' shares of the cores. It starts the nodes once for each
--policy, asks what a simulation of the same --seed asks, and writes OUT/POLICY-N.json.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from appliance.cli.bench.stream import RequestFailed
from appliance.errors import BadSettings
from appliance.fleet.capacity import seconds_per_request
from appliance.fleet.demand import Demand
from appliance.fleet.measured import REACH_MS
from appliance.fleet.routing import Policy
from bench.fleet import nodes, results, scale
from bench.fleet.asking import Answered, Asking, idle_reach_ms
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
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
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
    folder = given.out.resolve() / f"nodes-{given.nodes}"
    flags = ("--ctx", str(given.ctx), "--slots", str(given.slots))
    with nodes.fleet(given.model, found, folder, flags) as servers:
        endpoints = [server.endpoint for server in servers]
        words = pieces(tokens_of(some_text(), endpoints[0]))
        known = nodes.measured(given.model, given.nodes, folder)
        per_s = given.per_s or sum(given.busy / seconds_per_request(demand, n) for n in known)
        asking = Asking(demand, endpoints, known, policy=policy, words=words, seed=given.seed)
        answers: list[Answered] = asyncio.run(asking.run(given.requests, per_s))
    after = nodes.measured(given.model, given.nodes, folder)
    reach_ms = idle_reach_ms(answers) or REACH_MS
    return Measured(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        machine=machine_words(),
        cores=found[0].cores,
        policy=policy,
        demand=demand,
        per_s=per_s,
        seed=given.seed,
        answers=answers,
        nodes=[NodeRecord.of(each, reach_ms) for each in after],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="measure")
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
    run.add_argument("--per-s", type=float, help="requests (default: by --busy)")
    run.add_argument(
        "--busy",
        type=float,
        default=0.6,
        help="share of the nodes' time that requests take, by the formula (default: %(default)s)",
    )
    run.add_argument("--think-s", type=float, default=4.0, help="default: %(default)s")
    _add_scale(actions.add_parser("scale", help="where routers and doors become the limit"))
    compare = actions.add_parser("compare", help="simulate what was measured")
    compare.add_argument("results", nargs="+", type=Path)
    return parser


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
