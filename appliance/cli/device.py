"""`appliance fit --device`:
measures this machine, also what takes a child process or time.

Knows no table, no model.

GPUs are asked for in a child, unless llama.cpp is built without any, and helpers over the
network; memory bandwidth is measured once.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from appliance.cli.tables.device import as_text
from appliance.fit.machine.device import Device, measure_device
from appliance.fit.plan.budget import memory_budget
from appliance.launch.machine import list_gpus, with_bandwidth
from appliance.launch.rpc_helpers import find_helpers
from appliance.settings import ServeSettings


def run(settings: ServeSettings, *, as_json: bool) -> int:
    gpus = list_gpus()
    helpers = find_helpers(settings.rpc)
    found = (*gpus.accelerators, *helpers.devices)
    device = measure_device(models_dir=settings.models_dir, accelerators=found)
    device = with_bandwidth(device, settings.state_dir)
    budget = memory_budget(device, settings.ram)
    if as_json:
        findings = {"gpu_finding": gpus.finding, "missing_helpers": helpers.missing}
        record = {**device_record(device), "budget": asdict(budget), **findings}
        print(json.dumps(record, indent=2))
    else:
        print(as_text(device, budget, gpus.finding, settings.threads, helpers.missing))
    return 0


def device_record(device: Device) -> dict[str, object]:
    """All of it as JSON data, sizes in bytes, with what follows from it."""
    return {
        **asdict(device),
        "cpu_flags": sorted(device.cpu_flags),
        "free_bytes": device.free_bytes,
        "vram_free_bytes": device.vram_free_bytes,
        "threads": asdict(device.thread_choice),
    }
