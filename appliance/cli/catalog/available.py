"""`appliance list --available`: which models of the catalog fit this machine, how fast.

Knows no rule of what fits and no hub.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.cli.tables.table import table
from appliance.fit.machine.device import Device, measure_device
from appliance.fit.plan.budget import memory_budget, readable
from appliance.launch.machine import with_bandwidth
from appliance.launch.offers import Offer, offers
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.hub_id import HubId
from appliance.store.known.hub_models import load_hub_models
from appliance.store.models import ModelStore

_HEAD = ("", "kind", "parameters", "context", "quantization", "download", "need", "tokens/s", "")


def run(settings: ServeSettings, *, as_json: bool) -> int:
    device = with_bandwidth(measure_device(), settings.state_dir)
    found = offers_for(settings, device)
    if as_json:
        print(json.dumps([_record(offer) for offer in found], indent=2))
    else:
        print(_as_text(found, memory_budget(device, settings.ram).usable_bytes))
    return 0


def offers_for(settings: ServeSettings, device: Device) -> tuple[Offer, ...]:
    """Every model of the catalog, as `device` could serve it."""
    store = ModelStore(settings.models_dir, load_catalog())
    bandwidth = device.bandwidth
    return offers(
        load_hub_models(),
        memory_budget(device, settings.ram).usable_bytes,
        None if bandwidth is None else bandwidth.copy_bytes_per_s,
        lambda model: not store.resolve_hub(HubId(model.repository)).must_be_pulled,
    )


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


def _record(offer: Offer) -> dict[str, object]:
    """JSON data; sizes in bytes. With what does not fit."""
    model = offer.model
    return {
        "name": model.name,
        "repository": model.repository,
        "kind": model.kind,
        "licence": model.licence,
        "languages": model.languages,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "ctx": model.ctx,
        "note": model.note,
        "draft": load_catalog().draft_of(model.repository) if model.generates else None,
        "sizes": model.sizes,
        "fits": offer.fits,
        "quantization": offer.quantization,
        "need_bytes": offer.need_bytes,
        "tokens_per_s": offer.tokens_per_s,
        "is_here": offer.is_here,
    }
