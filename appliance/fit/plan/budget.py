"""How much memory a plan may take on a device. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.fit.machine.device import Device

MIN_HEADROOM_BYTES = 32 << 20
_MACHINES_HEADROOM_SHARE = 0.1
_OWN_HEADROOM_SHARE = 0.05
_MAX_HEADROOM_BYTES = 2 << 30
_WORTH_MENTIONING_BYTES = 256 << 20  # the libraries of an ordinary system take less


@dataclass(frozen=True)
class Budget:
    """What a plan may take, and why no more."""

    total_bytes: int
    # Stays free, for what the estimate does not know and for what passes: a body being
    # parsed, pages of code that were needed once.
    headroom_bytes: int
    explanation: str

    @property
    def usable_bytes(self) -> int:
        return self.total_bytes - self.headroom_bytes


def memory_budget(device: Device, ram: int | None) -> Budget:
    """The least of: memory available now, what the tightest control group and our NUMA
    nodes have left, and `ram`.

    What the asking process holds already is added to what is free, for a plan's need
    counts this process too.

    Of memory that all programs of a machine share a tenth is headroom; of what is ours
    alone (a control group's limit, `--ram`) a twentieth, for the estimate's own error
    is under 4 % (docs/performance.md); both at least 32 MiB, for a request's body to be
    parsed in, and at most 2 GiB.
    """
    bounds = [_less_headroom(bound, device.own_anonymous_bytes) for bound in memory_bounds(device)]
    if ram is not None:
        bounds.append(_less_headroom(MemoryBound(ram, "allowed by --ram", is_ours=True), 0))
    return min(bounds, key=lambda budget: budget.usable_bytes)


@dataclass(frozen=True)
class MemoryBound:
    """Something that bounds what can be taken now."""

    free_bytes: int
    words: str  # what leaves just so much, to be read after the amount
    is_ours: bool = False  # not shared with other programs


def memory_bounds(device: Device) -> list[MemoryBound]:
    """Everything that bounds what can be taken now."""
    mapped, limit = device.mapped_by_others_bytes, device.memory_limit
    words = f"available now out of {readable(device.ram_total_bytes)} in this machine"
    if mapped >= _WORTH_MENTIONING_BYTES:
        words += f", not counting {readable(mapped)} of files that other processes use"
    bounds = [MemoryBound(device.ram_unused_bytes, words)]
    if limit is not None:
        words = f"left under the {readable(limit.limit_bytes)} limit of {limit.group}"
        bounds.append(MemoryBound(limit.free_bytes, words, is_ours=True))
    if device.numa_available_bytes is not None:
        ours = ", ".join(str(node.number) for node in device.numa_nodes if node.ours)
        words = f"left on the NUMA nodes that this process may use ({ours})"
        bounds.append(MemoryBound(device.numa_available_bytes, words))
    return bounds


def _less_headroom(bound: MemoryBound, held_bytes: int) -> Budget:
    total_bytes = bound.free_bytes + held_bytes
    share = _OWN_HEADROOM_SHARE if bound.is_ours else _MACHINES_HEADROOM_SHARE
    headroom = int(
        min(max(total_bytes * share, MIN_HEADROOM_BYTES), _MAX_HEADROOM_BYTES, total_bytes)
    )
    explanation = f"{readable(total_bytes)} {bound.words}, less {readable(headroom)} headroom"
    return Budget(total_bytes, headroom, explanation)


def readable(num_bytes: int) -> str:
    """`123.4 MiB`, or `1.23 GiB` from one GiB on."""
    if num_bytes >= 1 << 30:
        return f"{num_bytes / (1 << 30):.2f} GiB"
    return f"{num_bytes / (1 << 20):.1f} MiB"
