"""SIGHUP: what may change while we serve is read anew, and the rest is named.

Knows no source of settings and no request. Nothing changes where anything that is read
cannot be used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import fields, replace

from fastapi import FastAPI

from appliance.cli.listening import allowed_names
from appliance.cli.network.certificates import Certificates
from appliance.cli.network.hangups import Hangups
from appliance.errors import ApplianceError, BadSettings
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.key_file import FileKeys
from appliance.loopback import is_local
from appliance.settings import ServeSettings

LIVE = ("log_level", "api_key_file", "tls_cert", "tls_key", "allowed_host", "allow_origin")

_log = logging.getLogger(__name__)


class Reloading:
    """`read` gives the settings as their sources have them now."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        read: Callable[[], ServeSettings],
        admission: Admission,
        certificates: Certificates | None,
        app: FastAPI,
    ) -> None:
        self._settings, self._read = settings, read
        self._admission, self._certificates, self._app = admission, certificates, app
        self._asked = asyncio.Event()

    async def run(self, hangups: Hangups) -> None:
        """Reads anew after each one, until cancelled; several at once count as one."""
        loop = asyncio.get_running_loop()
        with hangups.told_to(lambda: loop.call_soon_threadsafe(self._asked.set)):
            while True:
                await self._asked.wait()
                self._asked.clear()
                try:
                    await asyncio.to_thread(self.reload)
                except ApplianceError as error:
                    _log.error("settings not read anew, everything is as before: %s", error.message)

    def reload(self) -> None:
        """Raises `ApplianceError`, and changes nothing, where something cannot be used."""
        found = self._read()
        changed = [
            field.name
            for field in fields(ServeSettings)
            if getattr(found, field.name) != getattr(self._settings, field.name)
        ]
        fixed = [name for name in changed if name not in LIVE]
        if (found.tls_cert is None) != (self._settings.tls_cert is None):
            raise BadSettings("Between TLS and plain HTTP only a restart changes.")
        new = replace(self._settings, **{name: getattr(found, name) for name in LIVE})
        keys = FileKeys.from_file(new.api_key_file) if new.api_key_file else FileKeys(())
        if not (is_local(new.host) or new.insecure or self._admission.requires_key_beside(keys)):
            raise BadSettings(f"--host {new.host} would be open to everybody, without any API key.")
        if self._certificates is not None and new.tls_cert is not None:
            self._certificates.replace(new.tls_cert, new.tls_key)
        self._admission.take(keys)
        self._app.state.host_names.replace(allowed_names(new, self._admission))
        self._app.state.origins.replace(new.allow_origin)
        logging.getLogger().setLevel(new.log_level.upper())
        self._settings = new
        _log.info(
            "keys, certificates and settings read anew; changed: %s",
            ", ".join(name for name in changed if name in LIVE) or "no setting",
        )
        if fixed:
            _log.warning("only a restart changes these settings: %s", ", ".join(fixed))
