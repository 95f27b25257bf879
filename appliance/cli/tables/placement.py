"""A placement as a table for people. Knows no rule and no formula."""

from __future__ import annotations

from appliance.cli.tables.table import table
from appliance.fit.plan.budget import readable
from appliance.fit.plan.placement import GpuShare, Placement


def as_text(placement: Placement) -> str:
    """What went where; empty where nothing went to a GPU, for then all is in RAM."""
    if not placement.shares:
        return ""
    offload, host = placement.offload, placement.host
    in_ram = placement.num_layers - offload.gpu_layers
    rows: list[tuple[str, ...]] = [("", "layers", "weights", "KV cache", "compute", "total", "")]
    rows += [_row(share) for share in placement.shares]
    host_bytes = host.weights_bytes + host.kv_bytes + host.compute_bytes
    sizes = (host.weights_bytes, host.kv_bytes, host.compute_bytes, host_bytes)
    rows.append(("RAM", str(in_ram), *map(readable, sizes), "always holds the token embeddings"))
    split = f", split by {offload.split_mode.value}" if len(placement.shares) > 1 else ""
    return (
        f"On GPUs: {offload.gpu_layers} of {placement.num_layers} layers, the output layer "
        f"first{split}\n{table(rows)}"
    )


def _row(share: GpuShare) -> tuple[str, ...]:
    gpu = share.gpu
    sizes = (share.weights_bytes, share.kv_bytes, share.compute_bytes, share.total_bytes)
    whose = " in the machine's own memory" if gpu.shares_ram else ""
    remark = (
        f"of {readable(gpu.usable_bytes)}: {readable(gpu.free_bytes)} free{whose}, less headroom "
        f"({gpu.description})"
    )
    return (gpu.name, str(share.num_layers), *map(readable, sizes), remark)
