"""Whether a worker can be confined here: what the kernel can take from it, and what is left.

Knows no system call: a child tries them.
"""

from __future__ import annotations

import json
import subprocess
import sys

from appliance.cli.checks import Check, CheckStatus

PROBE = (sys.executable, "-m", "appliance.confinement.probe")
_NAME = "confinement"
_TIMEOUT_S = 30.0
_SINCE_LINUX_6_12 = frozenset({"sending signals to others"})  # most have an older kernel


def check_confinement(mode: str) -> Check:
    """`mode` is the setting --confine."""
    if mode == "off":
        return Check(
            name=_NAME,
            status=CheckStatus.WARN,
            finding="workers keep all rights: --confine is off",
            way_out="Use --confine auto, unless it is in the way here.",
        )
    try:
        probed = subprocess.run(
            PROBE, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check(
            name=_NAME,
            status=CheckStatus.WARN,
            finding=f"a confined process does not work here: {error}",
            way_out="Serve with --confine off, and report this.",
        )
    return judge(json.loads(probed.stdout), is_demanded=mode == "on")


def judge(found: dict[str, object], *, is_demanded: bool) -> Check:
    """Of what the probe printed."""
    version, gaps, possible = found["landlock_version"], found["gaps"], found["still_possible"]
    assert isinstance(gaps, list)
    assert isinstance(possible, list)
    in_force = [f"files (Landlock {version})"] if version else []
    in_force += ["system calls (seccomp)"] if found["has_seccomp"] else []
    text = f"confines workers: {' and '.join(in_force)}" if in_force else "does not confine workers"
    left = [f"still possible: {', '.join(possible)}"] if possible else []
    finding = "; ".join([f"this kernel {text}", *map(str, gaps), *left])
    status, way_out = CheckStatus.OK, ""
    if gaps or set(possible) - _SINCE_LINUX_6_12:
        status = CheckStatus.WARN
        way_out = "Linux 6.12 or later, with Landlock among its security modules (lsm=), has all."
    if gaps and is_demanded:
        status = CheckStatus.FAIL
        way_out = "Use --confine auto instead of on, to serve with what is possible."
    return Check(name=_NAME, status=status, finding=finding, way_out=way_out, data=dict(found))
