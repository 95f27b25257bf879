"""Whether the helpers that `--rpc` names can be used. Measures nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.cli.checks import Check, CheckStatus
from appliance.fit.machine.rpc_helpers import HelperList
from appliance.fit.plan.budget import readable

_WAY_OUT = (
    "Start `appliance rpc-worker` there, and see that its port is reached from here; a helper "
    "that is in use by a running server does not answer."
)


def check_helpers(found: HelperList, addresses: Sequence[str]) -> Check:
    """One check for all of them; a model is also served without those that are missing."""
    lines = [
        f"{device.name}: {readable(device.memory_free_bytes)} free" for device in found.devices
    ]
    lines += [*found.missing, *found.refused]
    is_whole = not (found.missing or found.refused)
    return Check(
        name="helpers",
        status=CheckStatus.OK if is_whole else CheckStatus.WARN,
        finding="; ".join(lines),
        way_out="" if is_whole else _WAY_OUT,
        data={"addresses": list(addresses), "usable": [device.name for device in found.devices]},
    )
