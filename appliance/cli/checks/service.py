"""Whether a server runs: what answers at its address, and what the service manager says.

Changes neither.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess

from appliance.cli.checks import Check, Status

_TIMEOUT_S = 2.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable_at(host: str) -> str:
    """The address at which a server that listens on `host` is reached from this machine."""
    return _ANY_ADDRESS.get(host, host)


def check_server(host: str, port: int) -> Check:
    """Asks GET /health of whatever listens where the settings say that our server does."""
    name, where = "server", f"{host} port {port}"
    connection = http.client.HTTPConnection(reachable_at(host), port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
        status = health["status"]
    except ConnectionRefusedError:
        return Check(
            name=name, status=Status.OK, finding=f"none runs on {where}", data={"running": False}
        )
    except OSError as error:  # time-outs and names that do not resolve too
        return Check(
            name=name,
            status=Status.WARN,
            finding=f"nothing answers on {where}: {error}",
            way_out="Check --host and --port.",
        )
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        finding = f"something that is not the appliance listens on {where}"
        return Check(
            name=name,
            status=Status.WARN,
            finding=finding,
            way_out="Stop it, or serve on another --port.",
        )
    finally:
        connection.close()
    data = {"running": True, "health": health}
    if status == "ok":
        return Check(name=name, status=Status.OK, finding=f"answers on {where}", data=data)
    finding = f"runs on {where} but is {status}: {health.get('reason') or 'it tells more only with a key'}"
    return Check(name=name, status=Status.WARN, finding=finding, way_out="See its log.", data=data)


def check_service_manager() -> Check | None:
    """systemd's word on the unit `appliance`; None where there is no systemd."""
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
            status=Status.WARN,
            finding="systemctl does not answer",
            way_out="Run: systemctl status appliance",
        )
    state = asked.stdout.strip()
    if not state:
        return Check(
            name="service",
            status=Status.OK,
            finding="systemd does not run here",
            data={"state": None},
        )
    if state == "failed":
        return Check(
            name="service",
            status=Status.WARN,
            finding="failed",
            way_out="Run: journalctl -u appliance",
            data={"state": state},
        )
    return Check(
        name="service", status=Status.OK, finding=f"{state} (systemd)", data={"state": state}
    )
