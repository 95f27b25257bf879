"""How much memory a plan may take on a device. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.fit.device import Device

_HEADROOM_SHARE = 0.1
_MIN_HEADROOM_BYTES = 32 << 20
_MAX_HEADROOM_BYTES = 2 << 30


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
    """The least of: memory available now, what the tightest control group has left, and `ram` bytes if that is given.

    A tenth of it is headroom, at least 32 MiB and at most 2 GiB: the error of the estimate grows with the model, the
    needs of the rest of the machine do not.
    """
    ram_total = readable(device.ram_total_bytes)
    sources = [(device.ram_available_bytes, f"memory available now, of {ram_total} in this machine")]
    if device.memory_limit is not None:
        limit = device.memory_limit
        sources.append((limit.free_bytes, f"left under the limit of {readable(limit.limit_bytes)} of {limit.group}"))
    if ram is not None:
        sources.append((ram, "allowed by --ram"))
    total_bytes, source = min(sources, key=lambda pair: pair[0])
    headroom = int(min(max(total_bytes * _HEADROOM_SHARE, _MIN_HEADROOM_BYTES), _MAX_HEADROOM_BYTES, total_bytes))
    explanation = f"{readable(total_bytes)} {source}, less {readable(headroom)} headroom"
    return Budget(total_bytes, headroom, explanation)


def readable(num_bytes: int) -> str:
    """`123.4 MiB`, or `1.23 GiB` from one GiB on."""
    if num_bytes >= 1 << 30:
        return f"{num_bytes / (1 << 30):.2f} GiB"
    return f"{num_bytes / (1 << 20):.1f} MiB"
