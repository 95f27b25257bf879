"""All faults, by name. Does none."""

from __future__ import annotations

from tests.soak.faults import clock, damage, descriptors, disk, memory, worker

FAULTS = {
    fault.name: fault
    for module in (worker, disk, clock, descriptors, memory, damage)
    for fault in module.FAULTS
}
