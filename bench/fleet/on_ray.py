"""A fleet of `appliance fleet serve` on machines that are namespaces of this one.

Knows no requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.cli.bench.stream import Endpoint
from appliance.fleet.routing import Policy
from bench.fleet.shares import Share
from tests.fleet.serving.machines import HTTP_PORT, fleet_of

# as of the nodes that have no fleet around them
_PLAIN: Mapping[str, object] = {
    "threads": 1,
    "batch_threads": 1,
    "no_tune": True,
    "prompt_lookup": "off",
    "repeatable": "off",
    "prefix_disk_bytes": 0,
    "max_waiting": 1_000_000,
}


@contextmanager
def fleet(
    model: Path, shares: Sequence[Share], policy: Policy, settings: Mapping[str, object]
) -> Iterator[list[Endpoint]]:
    """A machine for each share; yields their doors."""
    wanted = {"model": [str(model.resolve())], **_PLAIN, **settings}
    # such values are written in TOML as in JSON
    file = "\n".join(f"{name} = {json.dumps(value)}" for name, value in wanted.items())
    routing = f'routing = "{policy.value}"'
    words = [share.words for share in shares]
    for share in shares:
        share.free()
    with fleet_of(len(shares), file, routing, words) as machines:
        machines.start()
        machines.await_replicas(len(shares))
        for share in shares:
            share.bind()
        yield [Endpoint(each.address, HTTP_PORT, model.stem) for each in machines.machines]
