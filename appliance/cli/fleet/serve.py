"""`appliance fleet serve` and `join`: what runs on the head of a fleet, and on its nodes.

Knows no model and no request.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from appliance.cli.catalog.auto import with_auto
from appliance.cli.listening import base_url, listening_sockets
from appliance.cli.network.certificates import Certificates
from appliance.cli.serve import check_closed
from appliance.cli.service.auto import auto_rules
from appliance.errors import ApplianceError, BadSettings, SetupError
from appliance.fleet.serving import cluster
from appliance.fleet.serving.settings import node_settings, read_fleet_file
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.accounts.key_file import FileKeys
from appliance.launch.names import named_models
from appliance.logs import log_to_stderr
from appliance.loopback import socket_path
from appliance.settings import ServeSettings

if TYPE_CHECKING:
    from appliance.fleet.serving.deployment import Deployment, FleetPlan

_log = logging.getLogger(__name__)
_LOOK_S = 5.0  # between two looks at which nodes there are


def serve(file: Path) -> int:
    """Serves until SIGTERM or SIGINT; SIGHUP reads `file` again. Raises `SetupError`."""
    _check_ray()
    found = read_fleet_file(file)
    settings = node_settings(found.table, Path(found.folder))
    log_to_stderr(settings.log_level, settings.log_format)
    check_closed(settings, Accounts(settings.state_dir, settings.api_key_file))
    _check_certificates(settings)
    address = found.fleet.ray
    cluster.parts_of(address)
    if not cluster.is_there(address):  # else a proxy of its may listen already
        _check_port(settings)
    token = cluster.token_file(settings.state_dir)
    variables = cluster.ray_variables(token, settings.state_dir)
    os.environ.update(variables)  # before ray is imported
    from appliance.fleet.serving.deployment import Deployment

    deployment = Deployment(lambda: _plan(file))
    with cluster.head(address, variables):
        deployment.begin()
        _log.info(
            "ready: %s; other machines: appliance fleet join %s --token-file FILE, a copy of %s",
            base_url(_reached_at(settings, address)),
            address,
            token,
        )
        try:
            _watch(deployment)
        finally:
            deployment.end()
    return 0


def join(address: str, token: Path | None, settings: ServeSettings) -> int:
    """Becomes a node. Raises `SetupError`."""
    _check_ray()
    cluster.parts_of(address)
    path = settings.state_dir / cluster.TOKEN_FILE if token is None else token
    if not path.is_file():
        raise BadSettings(
            f"{path} is not there. Copy {cluster.TOKEN_FILE} from the head's state directory, and "
            "give --token-file FILE."
        )
    if not path.read_bytes().strip():
        raise BadSettings(f"{path} is empty. Copy {cluster.TOKEN_FILE} from the head again.")
    log_to_stderr(settings.log_level, settings.log_format)
    stopping = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        _log.info("leaving the fleet: answers in flight have %d s", cluster.DRAIN_S)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    cluster.join(address, cluster.ray_variables(path.absolute()), stopping)
    _log.info("left the fleet")
    return 0


def _watch(deployment: Deployment) -> None:
    """Until somebody stops it."""
    woken, wishes = threading.Event(), set[int]()

    def note(number: int, _frame: FrameType | None) -> None:
        wishes.add(number)
        woken.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    while True:
        woken.wait(_LOOK_S)
        woken.clear()
        if wishes & {signal.SIGTERM, signal.SIGINT}:
            _log.info("stopping: answers in flight come to their end")
            return
        try:
            if signal.SIGHUP in wishes:
                wishes.discard(signal.SIGHUP)
                deployment.reload()
                _log.info("the fleet is as its file says now")
            else:
                deployment.look()
        except ApplianceError as error:
            _log.error("%s", error.message)


def _plan(file: Path) -> FleetPlan:
    from appliance.fleet.serving.deployment import FleetPlan

    found = read_fleet_file(file)
    settings = with_auto(node_settings(found.table, Path(found.folder)), _log.info)
    _check_certificates(settings)
    models = named_models(settings)
    if unknown := found.fleet.replicas.keys() - {model.id for model in models}:
        names = ", ".join(model.id for model in models)
        raise BadSettings(
            f"[fleet.replicas] in {file}: there is no model {min(unknown)!r}. The models are: "
            f"{names}."
        )
    # what was chosen here, nodes are told: on each, `auto` or nothing may mean another model
    named = settings.model or (models[0].spec.argument,)
    table = {**found.table, "model": list(named)}
    key_file = settings.api_key_file
    return FleetPlan(
        file=msgspec.structs.replace(found, table=table),
        settings=settings,
        models=models,
        auto=auto_rules(settings),
        file_keys=() if key_file is None else FileKeys.from_file(key_file).digests,
    )


def _check_port(settings: ServeSettings) -> None:
    """Raises `BadSettings` where Ray's proxy could not listen: it would try for ever."""
    if socket_path(settings.host) is not None:
        raise BadSettings(
            f"A fleet takes requests at an address, and host is the socket {settings.host}. Give "
            "the address of this machine, or 127.0.0.1 for a fleet of one."
        )
    for sock in listening_sockets(settings):
        sock.close()


def _check_certificates(settings: ServeSettings) -> None:
    """Ray's proxy, which shows them, would try again for ever. Raises `BadSettings`."""
    if settings.tls_cert is not None:
        Certificates(settings.tls_cert, settings.tls_key)


def _reached_at(settings: ServeSettings, address: str) -> ServeSettings:
    """With the head's own address, where it takes requests at all it has."""
    if settings.host not in ("0.0.0.0", "::"):
        return settings
    return dataclasses.replace(settings, host=cluster.parts_of(address)[0])


def _check_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise SetupError(
            "A fleet needs Ray Serve, which is not installed here. Install it beside the "
            f"appliance: {sys.executable} -m pip install 'appliance[fleet]'"
        )
