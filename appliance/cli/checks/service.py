"""Whether a server runs: what answers at its address,
and what the service manager reports.

Changes neither.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from pathlib import Path

from appliance.cli.checks import Check, CheckStatus
from appliance.cli.network.reaching import Address
from appliance.cli.network.validity import validity_of
from appliance.errors import BadSettings

_TIMEOUT_S = 2.0


def check_server(address: Address) -> Check:
    """Asks GET /health of whatever listens
    where the settings say that our server does.
    """
    name, where = "server", address.words
    try:
        connection = address.connection(_TIMEOUT_S)
    except BadSettings as error:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=error.message,
            way_out="Give a certificate that you may read, or ask as the server's user.",
        )
    try:
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
        status = health["status"]
    except (ConnectionRefusedError, FileNotFoundError):  # the latter: no such Unix socket
        return Check(
            name=name,
            status=CheckStatus.OK,
            finding=f"none is running on {where}",
            data={"running": False},
        )
    except OSError as error:  # time-outs and names that do not resolve too
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=f"nothing answers on {where}: {error}",
            way_out="Check --host and --port.",
        )
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        finding = f"something other than the appliance listens on {where}"
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=finding,
            way_out="Stop it, or serve on another --port.",
        )
    finally:
        connection.close()
    data = {"running": True, "health": health}
    if status == "ok":
        return Check(name=name, status=CheckStatus.OK, finding=f"answers on {where}", data=data)
    why = health.get("reason") or "it gives details only to requests with an API key"
    finding = f"is running on {where}, but its status is {status}: {why}"
    return Check(
        name=name,
        status=CheckStatus.WARN,
        finding=finding,
        way_out="See the server's log.",
        data=data,
    )


def check_certificate(cert: Path, now_s: float) -> Check:
    """The file that --tls-cert names, whether a server runs or not."""
    name = "certificate"
    try:
        validity = validity_of(cert)
    except (OSError, ValueError) as error:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=f"{cert} cannot be read: {error}",
            way_out="Give --tls-cert a file of certificates in PEM form that you may read.",
        )
    data = {"valid_from_s": validity.from_s, "valid_until_s": validity.until_s}
    complaint = validity.complaint(now_s)
    if complaint:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=f"{cert} {complaint}",
            way_out="Renew it. A running server takes up the new file by itself.",
            data=data,
        )
    return Check(
        name=name,
        status=CheckStatus.OK,
        finding=f"{cert} is valid until {validity.last_day}",
        data=data,
    )


def check_service_manager() -> Check | None:
    """What systemd reports of the unit `appliance`; None where there is no systemd."""
    if shutil.which("systemctl") is None:
        return None
    try:
        asked = subprocess.run(
            ["systemctl", "is-active", "appliance"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(
            name="service",
            status=CheckStatus.WARN,
            finding="systemctl does not answer",
            way_out="Run: systemctl status appliance",
        )
    state = asked.stdout.strip()
    if not state:
        return Check(
            name="service",
            status=CheckStatus.OK,
            finding="systemd is not running",
            data={"state": None},
        )
    if state == "failed":
        return Check(
            name="service",
            status=CheckStatus.WARN,
            finding="failed",
            way_out="Run: journalctl -u appliance",
            data={"state": state},
        )
    return Check(
        name="service", status=CheckStatus.OK, finding=f"{state} (systemd)", data={"state": state}
    )
