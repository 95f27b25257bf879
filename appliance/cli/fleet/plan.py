"""`appliance fleet plan`: how many nodes, and what they cost, as a table. Simulates nothing
itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from appliance.cli.tables.table import table
from appliance.errors import BadSettings
from appliance.fit.plan.budget import readable
from appliance.fleet.capacity import Bill, Capacity, Target, Tried, bill, plan, tokens_per_s
from appliance.fleet.demand import Demand
from appliance.fleet.kubernetes import helm_values, total_bytes
from appliance.fleet.measured import MeasuredNode, find_node, read_node
from appliance.fleet.routing import Policy
from appliance.protocol.measured_node import NodeDescription
from appliance.settings import ServeSettings


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Raises `BadSettings` for what cannot be planned, with the reason."""
    if args.requests_per_day is None:
        raise BadSettings("appliance fleet plan needs --requests-per-day NUMBER.")
    demand = Demand(
        requests_per_day=args.requests_per_day,
        prompt_tokens=args.prompt,
        answer_tokens=args.answer,
        turns=args.turns,
        system_tokens=args.system,
        peak=args.peak,
    )
    if (args.node is None) == (args.what is None):
        raise BadSettings("Give either a MODEL that was served here, or --node FILE.")
    if args.node is not None:
        node = read_node(Path(args.node))
    else:
        node = find_node(settings.state_dir / "step-times", args.what)
    if args.k8s and args.json:
        raise BadSettings("Give either --json or --k8s.")
    print("simulating the busiest hour (some seconds)", file=sys.stderr, flush=True)
    found = plan(demand, node, Target(first_s=args.first_token_s), Policy(args.policy))
    day = bill(
        found.chosen.num_nodes,
        price_per_hour=settings.price_per_hour,
        watts=settings.watts,
        gco2_per_kwh=settings.gco2_per_kwh,
    )
    if args.k8s:
        model = args.what or node.node.model
        num_nodes, policy = found.chosen.num_nodes, Policy(args.policy)
        print(helm_values(node.node, num_nodes=num_nodes, model=model, policy=policy), end="")
    elif args.json:
        print(json.dumps(_record(demand, node, found, day), indent=2))
    else:
        print(_text(demand, node, found, day))
    return 0


def _record(demand: Demand, node: MeasuredNode, found: Capacity, day: Bill) -> dict[str, Any]:
    return {
        "model": node.node.model,
        "machine": node.node.machine,
        "demand": asdict(demand),
        "nodes": found.chosen.num_nodes,
        "nodes_on_paper": found.on_paper,
        "seconds_per_request": found.seconds_per_request,
        "simulated": [_row(each) for each in found.tried],
        "memory": {
            **msgspec.structs.asdict(node.node.memory),
            "prefixes_bytes": node.node.host_bytes,
            "fleet_bytes": found.chosen.num_nodes * total_bytes(node.node),
        },
        "day": asdict(day),
    }


def _row(tried: Tried) -> dict[str, Any]:
    outcome = tried.outcome
    return {
        "nodes": tried.num_nodes,
        "first_token_p50_s": outcome.first_s(0.5),
        "first_token_p95_s": outcome.first_s(0.95),
        "answer_p95_s": outcome.total_s(0.95),
        "cached_share": outcome.cached_share,
        "busy_share": outcome.busy_share,
        "suffices": tried.suffices,
    }


def _text(demand: Demand, node: MeasuredNode, found: Capacity, day: Bill) -> str:
    chosen = found.chosen
    length = int(demand.mean_prompt_tokens + demand.answer_tokens / 2)
    about, num_slots = node.node, node.node.slots
    lines = [
        f"{about.model} on {about.machine}, served with {num_slots} slots and {about.ctx} tokens",
        f"{tokens_per_s(node, 1, length):.0f} tokens/s in one stream, "
        f"{tokens_per_s(node, num_slots, length):.0f} in {num_slots}, after {length} tokens",
        "",
        f"{demand.requests_per_day:,.0f} requests a day are {demand.peak_per_s:.3g} a second in "
        f"the busiest hour; prompts have {demand.mean_prompt_tokens:.0f} tokens, of which "
        f"{demand.known_share:.0%} were computed before",
        f"a request takes a node {found.seconds_per_request:.2f} s: on paper {found.on_paper} "
        f"node{'s' if found.on_paper > 1 else ''}",
        "",
        _table(found),
        "",
        f"{chosen.num_nodes} node{'s' if chosen.num_nodes > 1 else ''} "
        f"suffice{'' if chosen.num_nodes > 1 else 's'}: {day.node_hours:,.0f} node-hours a day"
        + "".join(_costs(day)),
    ]
    lines.extend(_memory(about, chosen.num_nodes))
    if chosen.num_simulated < chosen.num_nodes:
        lines.append(
            f"({chosen.num_simulated} nodes were simulated, with their share of the requests.)"
        )
    return "\n".join(lines)


def _memory(node: NodeDescription, num_nodes: int) -> Iterator[str]:
    memory = node.memory
    if not memory.total_bytes:  # a file of an earlier version
        return
    prefixes = f", and {readable(node.host_bytes)} for prefixes" if node.host_bytes else ""
    yield (
        f"each takes {readable(memory.total_bytes)} of memory (weights "
        f"{readable(memory.weights_bytes)}, KV cache {readable(memory.kv_bytes)}){prefixes}: "
        f"{readable(num_nodes * total_bytes(node))} in all"
    )


def _table(found: Capacity) -> str:
    head = ("nodes", "first token p50 s", "p95 s", "answer p95 s", "cached", "busy", "")
    return table([head, *(_cells(tried) for tried in found.tried)])


def _cells(tried: Tried) -> tuple[str, ...]:
    outcome = tried.outcome
    return (
        str(tried.num_nodes),
        f"{outcome.first_s(0.5):.2f}",
        f"{outcome.first_s(0.95):.2f}",
        f"{outcome.total_s(0.95):.1f}",
        f"{outcome.cached_share:.0%}",
        f"{outcome.busy_share:.0%}",
        "enough" if tried.suffices else "too few",
    )


def _costs(day: Bill) -> Iterator[str]:
    if day.cost is not None:
        yield f", {day.cost:,.2f} in the price's currency"
    if day.kwh is not None:
        yield f", {day.kwh:,.1f} kWh"
    if day.gco2e_kg is not None:
        yield f", {day.gco2e_kg:,.1f} kg of CO2e"
