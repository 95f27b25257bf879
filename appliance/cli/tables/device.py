"""A measured device as a table for people:
what there is, and what each number follows from.

Measures nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from appliance.fit.machine.accelerators import RPC, Accelerator
from appliance.fit.machine.bandwidth import Bandwidth
from appliance.fit.machine.device import Device
from appliance.fit.machine.numa import NumaNode
from appliance.fit.machine.thermal import Thermal
from appliance.fit.plan.budget import Budget, memory_bounds, readable

_Row = tuple[str, str, str]  # what, how much, why
_LINE_LENGTH = 110
_LEAST_SHOWN_BYTES = 1 << 20
_NOISY = 1.5  # median over best of the passes


def as_text(
    device: Device,
    budget: Budget,
    gpu_finding: str,
    threads: int | None = None,
    missing_helpers: Sequence[str] = (),
) -> str:
    """Plain ASCII lines, the same on a terminal and in a pipe;
    `threads` is what the user set.
    """
    helpers = [_helper(one) for one in device.accelerators if one.kind == RPC]
    helpers += [("helper", "none", words) for words in missing_helpers]
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
        *([("Helpers", helpers)] if helpers else []),
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
    available = (
        f"{readable(device.ram_available_bytes)} available: free, or page cache that the kernel "
        "would drop"
    )
    yield "RAM", readable(device.ram_total_bytes), available
    if device.mapped_by_others_bytes >= _LEAST_SHOWN_BYTES:
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
            if limit.mapped_bytes >= _LEAST_SHOWN_BYTES
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
        why = f"{readable(device.swap_free_bytes)} free; plans never count on it"
        yield "swap", readable(device.swap_total_bytes), why
    else:
        yield "swap", "none", ""
    pressure = device.pressure
    if pressure is None:
        yield "pressure", "unknown", "this system does not report it"
    else:
        why = (
            "of the last 10 s some task waited for memory; for "
            f"{pressure.full_avg10:.1f} % all did ({pressure.source})"
        )
        yield "pressure", f"{pressure.some_avg10:.1f} %", why


def _usable(device: Device) -> _Row:
    tightest = min(memory_bounds(device), key=lambda bound: bound.free_bytes)
    return "usable", readable(tightest.free_bytes), tightest.words


def _node(node: NumaNode) -> str:
    memory = readable(node.memory_bytes) + ("" if node.ours else ", not usable")
    return f"{node.number}: {len(node.cpus)} CPUs ({len(node.our_cpus)} usable), {memory}"


def _processor(device: Device) -> Iterator[_Row]:
    yield "model", "", device.cpu_name or "unknown"
    yield "CPUs", str(device.usable_cpus), "that this process may run on"
    kinds = device.core_kinds
    alike = "physical, all of one kind as far as the system reports"
    differ = (
        f"physical: {kinds.performance} performance, {kinds.efficiency} efficiency ({kinds.source})"
        if kinds
        else ""
    )
    yield "cores", str(device.usable_cores), differ or alike
    if device.cpu_quota is None:
        yield "quota", "none", "no control group limits CPU time"
    else:
        yield "quota", f"{device.cpu_quota:g} CPUs", "set by the tightest control group"
    if device.cache_bytes is not None:
        yield "caches", readable(device.cache_bytes), "last level"


def _threads(device: Device, threads: int | None) -> _Row:
    choice = device.thread_choice
    if threads is None:
        return "threads", str(choice.count), choice.reason
    why = f"set by --threads; without it, {choice.count}: {choice.reason}"
    return "threads", str(threads), why


def _bandwidth(bandwidth: Bandwidth | None) -> _Row:
    if bandwidth is None:
        return "bandwidth", "unknown", "too little memory is free to measure it"
    copied = f"{bandwidth.copied_bytes / 1e6:.0f} MB"
    threads = "1 thread" if bandwidth.threads == 1 else f"{bandwidth.threads} threads"
    why = (
        f"read and written in the best pass of {threads} copying {copied}; measured "
        f"{bandwidth.date}"
    )
    if bandwidth.cached:
        why += "; the caches are large enough to inflate it"
    if bandwidth.spread > _NOISY:
        why += (
            "; other work disturbed the measurement (the median pass took "
            f"{bandwidth.spread:.1f} times as long)"
        )
    return "bandwidth", f"{bandwidth.copy_bytes_per_s / 1e9:.1f} GB/s", why


def _gpus(device: Device, finding: str) -> list[_Row]:
    own = [accelerator for accelerator in device.accelerators if accelerator.kind != RPC]
    if not own:
        return [
            (
                "GPU",
                "none" if not finding.startswith("unknown") else "unknown",
                finding.removeprefix("unknown: "),
            )
        ]
    return [_gpu(device, accelerator) for accelerator in own]


def _helper(helper: Accelerator) -> _Row:
    free = (
        f"{helper.description}: {readable(helper.memory_free_bytes)} of "
        f"{readable(helper.memory_total_bytes)} free"
    )
    link = helper.link
    if link is None:
        return helper.name, readable(helper.memory_free_bytes), free
    away = (
        f"{1e3 * link.round_trip_s:.2f} ms and {link.bytes_per_s / 1e6:.0f} MB/s away; it copies "
        f"{link.copy_bytes_per_s / 1e9:.1f} GB/s in its own memory"
    )
    return helper.name, readable(helper.memory_free_bytes), f"{free}; {away}"


def _gpu(device: Device, accelerator: Accelerator) -> _Row:
    free = (
        f"{readable(accelerator.memory_free_bytes)} of "
        f"{readable(accelerator.memory_total_bytes)} free"
    )
    if device.unified_memory is not None or accelerator.kind == "IGPU":
        shared = f" ({device.unified_memory})" if device.unified_memory is not None else ""
        return (
            accelerator.name,
            "RAM",
            f"{accelerator.description}: {free}, shared with the machine{shared} and counted once",
        )
    return (
        accelerator.name,
        readable(accelerator.memory_free_bytes),
        f"{accelerator.description}: {free} in its own memory",
    )


def _disk(device: Device) -> _Row:
    if device.disk is None:
        return "disk", "unknown", "the file system of the models directory cannot be examined"
    return "disk", readable(device.disk.free_bytes), f"free for models in {device.disk.directory}"


def _heat(thermal: Thermal | None) -> Iterator[_Row]:
    if thermal is None:
        yield "heat", "unknown", "this system does not report it"
        return
    yield "heat", thermal.state.value if thermal.state is not None else "unknown", thermal.reason
    if thermal.hottest_celsius is not None:
        yield "hottest", f"{thermal.hottest_celsius:.0f} C", thermal.hottest_zone
    if thermal.throttle_count:
        yield "throttled", str(thermal.throttle_count), "times since the machine started"
    if thermal.clock_share is not None and thermal.clock_share < 1:
        why = (
            "of the CPU's full clock rate can be reached: heat, firmware or a power profile limits "
            "it"
        )
        yield "clock", f"{100 * thermal.clock_share:.0f} %", why
