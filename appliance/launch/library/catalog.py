"""Which models of the catalog would fit beside what is loaded. Asks no hub."""

from __future__ import annotations

from appliance.fit.machine.device import measure_device
from appliance.fit.plan.budget import memory_budget
from appliance.gateway.library.offers import Catalog
from appliance.launch.machine import recall_bandwidth
from appliance.launch.offers import catalog_offers, described
from appliance.launch.spec import ModelSpec


def catalog_for(spec: ModelSpec, *, may_pull: bool) -> Catalog:
    """In the places and the memory that `spec` names; bandwidth counts where it was measured."""
    device = recall_bandwidth(measure_device(), spec.state_dir)
    usable_bytes = memory_budget(device, spec.ram).usable_bytes
    offers = catalog_offers(device, usable_bytes, spec.models_dir)
    return Catalog(
        usable_bytes=usable_bytes, may_pull=may_pull, models=tuple(map(described, offers))
    )
