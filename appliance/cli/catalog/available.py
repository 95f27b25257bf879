"""`appliance list --available`: which models of the catalog fit this machine, how fast.

Knows no rule of what fits and no hub.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from appliance.cli.tables.table import table
from appliance.fit.machine.device import Device, measure_device
from appliance.fit.plan.budget import memory_budget, readable
from appliance.launch.machine import with_bandwidth
from appliance.launch.offers import Offer, catalog_offers, described
from appliance.settings import ServeSettings

_HEAD = ("", "kind", "parameters", "context", "quantization", "download", "need", "tokens/s", "")


def run(settings: ServeSettings, *, as_json: bool) -> int:
    device = with_bandwidth(measure_device(), settings.state_dir)
    found = offers_for(settings, device)
    if as_json:
        records = msgspec.to_builtins([described(offer) for offer in found])
        print(json.dumps(records, indent=2))
    else:
        print(_as_text(found, memory_budget(device, settings.ram).usable_bytes))
    return 0


def offers_for(settings: ServeSettings, device: Device) -> tuple[Offer, ...]:
    """Every model of the catalog, as `device` could serve it."""
    usable_bytes = memory_budget(device, settings.ram).usable_bytes
    return catalog_offers(device, usable_bytes, settings.models_dir)


def _as_text(found: Sequence[Offer], usable_bytes: int) -> str:
    """Those that fit and how many do not: where less is free than they take."""
    fitting = [offer for offer in found if offer.fits]
    lines = [table([_HEAD, *map(_row, fitting)])] if fitting else []
    lines += [
        "",
        f"{len(fitting)} of {len(found)} models fit in the {readable(usable_bytes)} that can be "
        "used here. Sizes are rounded; tokens/s is",
        "what memory's bandwidth allows for one answer. 'appliance fit NAME' is exact, 'appliance "
        "pull NAME' downloads.",
    ]
    return "\n".join(lines)


def _row(offer: Offer) -> tuple[str, ...]:
    model = offer.model
    return (
        model.name,
        model.kind,
        f"{model.parameters / 1e9:.1f} B",
        "-" if model.ctx is None else str(model.ctx),
        offer.quantization,
        readable(offer.file_bytes),
        readable(offer.need_bytes),
        "-" if offer.tokens_per_s is None else f"{offer.tokens_per_s:.1f}",
        "here" if offer.is_here else "",
    )
