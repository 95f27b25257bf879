"""A measured device as a table for people: what there is, and what each number follows from.

Measures nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.machine.bandwidth import Bandwidth
from appliance.fit.machine.device import Device
from appliance.fit.machine.numa import NumaNode
from appliance.fit.machine.thermal import Thermal
from appliance.fit.plan.budget import Budget, memory_bounds, readable

_Row = tuple[str, str, str]  # what, how much, why
_LINE_LENGTH = 110
_WORTH_TELLING_BYTES = 1 << 20
_NOISY = 1.5  # median over best of the passes


def as_text(device: Device, budget: Budget, gpu_finding: str, threads: int | None = None) -> str:
    """Plain ASCII lines, the same on a terminal and in a pipe; `threads` is what the user set."""
    sections = (
        (
            "Memory",
            [
                *_memory(device),
                _usable(device),
                ("budget", readable(budget.usable_bytes), budget.explanation),
            ],
        ),
        (
            "Processor",
            [*_processor(device), _threads(device, threads), _bandwidth(device.bandwidth)],
        ),
        ("GPU", _gpus(device, gpu_finding)),
        ("Disk and heat", [_disk(device), *_heat(device.thermal)]),
    )
    widths = [max(len(row[at]) for _, rows in sections for row in rows) for at in range(2)]
    lines = []
    for title, rows in sections:
        lines.append(f"{title}")
        lines += [line for row in rows for line in _lines(row, widths)]
    return "\n".join(lines)


def _lines(row: _Row, widths: list[int]) -> list[str]:
    what, much, why = row
    start = f"  {what:<{widths[0]}}  {much:>{widths[1]}}  "
    first, *rest = textwrap.wrap(why, _LINE_LENGTH - len(start)) or [""]
    return [f"{start}{first}".rstrip(), *(" " * len(start) + line for line in rest)]


def _memory(device: Device) -> Iterator[_Row]:
    available = f"{readable(device.ram_available_bytes)} available: free, or page cache that the kernel would drop"
    yield "RAM", readable(device.ram_total_bytes), available
    if device.mapped_by_others_bytes >= _WORTH_TELLING_BYTES:
        yield (
            "mapped",
            readable(device.mapped_by_others_bytes),
            "of that cache is in use by other processes",
        )
    limit = device.memory_limit
    if limit is None:
        yield "limit", "none", "no control group limits it"
    else:
        mapped = (
            f"; {readable(limit.mapped_bytes)} of its cache is in use"
            if limit.mapped_bytes >= _WORTH_TELLING_BYTES
            else ""
        )
        why = f"{limit.kind} of {limit.group}: {readable(limit.free_bytes)} left{mapped}"
        yield "limit", readable(limit.limit_bytes), why
    if len(device.numa_nodes) > 1:
        yield (
            "NUMA nodes",
            str(len(device.numa_nodes)),
            "; ".join(_node(node) for node in device.numa_nodes),
        )
    if device.swap_total_bytes:
        why = f"{readable(device.swap_free_bytes)} free for us; nothing is planned into it"
        yield "swap", readable(device.swap_total_bytes), why
    else:
        yield "swap", "none", ""
    pressure = device.pressure
    if pressure is None:
        yield "pressure", "unknown", "this system does not tell it"
    else:
        why = f"of the last 10 s somebody waited for memory; all did {pressure.full_avg10:.1f} % ({pressure.source})"
        yield "pressure", f"{pressure.some_avg10:.1f} %", why


def _usable(device: Device) -> _Row:
    tightest = min(memory_bounds(device), key=lambda bound: bound.free_bytes)
    return "usable", readable(tightest.free_bytes), tightest.words


def _node(node: NumaNode) -> str:
    memory = readable(node.memory_bytes) + ("" if node.ours else ", not ours to use")
    return f"{node.number}: {len(node.cpus)} CPUs ({len(node.our_cpus)} ours), {memory}"


def _processor(device: Device) -> Iterator[_Row]:
    yield "model", "", device.cpu_name or "unknown"
    yield "CPUs", str(device.usable_cpus), "that this process may run on"
    kinds = device.core_kinds
    alike = "physical, all alike as far as the system tells"
    differ = (
        f"physical: {kinds.performance} performance, {kinds.efficiency} efficiency ({kinds.source})"
        if kinds
        else ""
    )
    yield "cores", str(device.usable_cores), differ or alike
    if device.cpu_quota is None:
        yield "quota", "none", "no control group limits our CPU time"
    else:
        yield "quota", f"{device.cpu_quota:g} CPUs", "the tightest of our control groups"
    if device.cache_bytes is not None:
        yield "caches", readable(device.cache_bytes), "of the last level"


def _threads(device: Device, gpu_overrides: int | None) -> _Row:
    choice = device.thread_choice
    if gpu_overrides is None:
        return "threads", str(choice.count), choice.reason
    return (
        "threads",
        str(gpu_overrides),
        f"as --threads says; without it {choice.count}: {choice.reason}",
    )


def _bandwidth(bandwidth: Bandwidth | None) -> _Row:
    if bandwidth is None:
        return "bandwidth", "unknown", "too little memory is free to measure it"
    copied = f"{bandwidth.copied_bytes / 1e6:.0f} MB"
    why = f"read and written by {bandwidth.threads} threads copying {copied}, the best pass; measured {bandwidth.date}"
    if bandwidth.cached:
        why += "; the caches are large enough to flatter it"
    if bandwidth.spread > _NOISY:
        why += f"; something else computed meanwhile (the median took {bandwidth.spread:.1f} times as long)"
    return "bandwidth", f"{bandwidth.copy_bytes_per_s / 1e9:.1f} GB/s", why


def _gpus(device: Device, finding: str) -> list[_Row]:
    if not device.accelerators:
        return [
            (
                "GPU",
                "none" if not finding.startswith("unknown") else "unknown",
                finding.removeprefix("unknown: "),
            )
        ]
    return [_gpu(device, accelerator) for accelerator in device.accelerators]


def _gpu(device: Device, accelerator: Accelerator) -> _Row:
    free = f"{readable(accelerator.memory_free_bytes)} of {readable(accelerator.memory_total_bytes)} free"
    if device.unified_memory is not None or accelerator.kind == "IGPU":
        shared = f" ({device.unified_memory})" if device.unified_memory is not None else ""
        return (
            accelerator.name,
            "RAM",
            f"{accelerator.description}: {free}, the machine's own{shared}: counted once",
        )
    return (
        accelerator.name,
        readable(accelerator.memory_free_bytes),
        f"{accelerator.description}: {free}, its own",
    )


def _disk(device: Device) -> _Row:
    if device.disk is None:
        return "disk", "unknown", "the models directory cannot be looked at"
    return "disk", readable(device.disk.free_bytes), f"free for models in {device.disk.directory}"


def _heat(thermal: Thermal | None) -> Iterator[_Row]:
    if thermal is None:
        yield "heat", "unknown", "this system does not tell it"
        return
    yield "heat", thermal.state.value if thermal.state is not None else "unknown", thermal.reason
    if thermal.hottest_celsius is not None:
        yield "hottest", f"{thermal.hottest_celsius:.0f} C", thermal.hottest_zone
    if thermal.throttle_count:
        yield "throttled", str(thermal.throttle_count), "times since the machine was started"
    if thermal.clock_share is not None and thermal.clock_share < 1:
        why = "of what the CPU could do is what its clock may reach: heat, firmware or a power profile holds it back"
        yield "clock", f"{100 * thermal.clock_share:.0f} %", why
