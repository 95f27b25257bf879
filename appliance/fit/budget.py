"""How much memory a plan may take on a device. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.fit.device import Device

_HEADROOM_SHARE = 0.1
_MIN_HEADROOM_BYTES = 32 << 20
_MAX_HEADROOM_BYTES = 2 << 30
_WORTH_TELLING_BYTES = 256 << 20  # the libraries of an ordinary system take less


@dataclass(frozen=True)
class Budget:
    """`total_bytes` may be taken at most; `headroom_bytes` of it stay free for what the estimate does not know."""

    total_bytes: int
    headroom_bytes: int
    explanation: str

    @property
    def usable_bytes(self) -> int:
        return self.total_bytes - self.headroom_bytes


def memory_budget(device: Device, ram: int | None) -> Budget:
    """The least of: memory available now, what the tightest control group and our NUMA nodes have left, and `ram`.

    What the asking process holds already is added to what is free, for a plan's need counts this process too. A tenth
    of all is headroom, at least 32 MiB and at most 2 GiB: the error of the estimate grows with the model, the
    needs of the rest of the machine do not.
    """
    sources = [(free_bytes + device.own_anonymous_bytes, words) for free_bytes, words in memory_bounds(device)]
    if ram is not None:
        sources.append((ram, "allowed by --ram"))
    total_bytes, source = min(sources, key=lambda pair: pair[0])
    headroom = int(min(max(total_bytes * _HEADROOM_SHARE, _MIN_HEADROOM_BYTES), _MAX_HEADROOM_BYTES, total_bytes))
    explanation = f"{readable(total_bytes)} {source}, less {readable(headroom)} headroom"
    return Budget(total_bytes, headroom, explanation)


def memory_bounds(device: Device) -> list[tuple[int, str]]:
    """Everything that bounds what can be taken now: bytes, and in words what leaves just those."""
    mapped, limit = device.mapped_by_others_bytes, device.memory_limit
    words = "memory available now"
    if mapped >= _WORTH_TELLING_BYTES:
        words += f" without the {readable(mapped)} of files that other processes use"
    bounds = [(device.ram_unused_bytes, f"{words}, of {readable(device.ram_total_bytes)} in this machine")]
    if limit is not None:
        words = f"left under the limit of {readable(limit.limit_bytes)} of {limit.group}"
        bounds.append((limit.free_bytes, words))
    if device.numa_available_bytes is not None:
        ours = ", ".join(str(node.number) for node in device.numa_nodes if node.ours)
        bounds.append((device.numa_available_bytes, f"left on the NUMA nodes that this process may use ({ours})"))
    return bounds


def readable(num_bytes: int) -> str:
    """`123.4 MiB`, or `1.23 GiB` from one GiB on."""
    if num_bytes >= 1 << 30:
        return f"{num_bytes / (1 << 30):.2f} GiB"
    return f"{num_bytes / (1 << 20):.1f} MiB"
