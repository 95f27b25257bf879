"""The server that runs at --host and --port, asked over HTTP or TLS.

Knows no process, and of its answers only what says that it is ours.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from appliance.cli.network.reaching import Address
from appliance.errors import ApplianceError
from appliance.gateway.accounts.key_file import read_keys
from appliance.settings import ServeSettings

_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """Where it is reached from this machine, and the key that it accepts, if one is known."""

    address: Address
    key: str | None

    @classmethod
    def of(cls, settings: ServeSettings) -> RunningServer:
        """Raises `BadSettings` where the file of keys cannot be read."""
        keys = read_keys(settings.api_key_file) if settings.api_key_file is not None else []
        return cls(address=Address.of(settings), key=keys[0] if keys else None)

    @property
    def url(self) -> str:
        """Without `/v1`. Raises `BadSettings` for a Unix socket."""
        return self.address.url

    def processes(self) -> dict[str, Any]:
        """What `/ps` answers. Raises `ApplianceError` if no server answers, or it refuses."""
        status, answer = self._get("/ps", _TIMEOUT_S)
        if status != http.client.OK or "models" not in answer:
            raise ApplianceError(
                f"The server on {self.address.words} is not an appliance server (HTTP status "
                f"{status}). Check --host and --port."
            )
        return answer

    def properties(self, model: str | None, *, timeout_s: float) -> dict[str, Any]:
        """What `/props` answers for a model, the default one for None; loads it.

        Raises `ApplianceError` if no server answers, or it refuses.
        """
        path = "/props" if model is None else f"/props?model={quote(model, safe='')}"
        status, answer = self._get(path, timeout_s)
        if status != http.client.OK:
            error = answer.get("error")
            reason = error.get("message") if isinstance(error, dict) else None
            raise ApplianceError(str(reason or f"The server answered with HTTP status {status}."))
        return answer

    def _get(self, path: str, timeout_s: float) -> tuple[int, dict[str, Any]]:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        connection = self.address.connection(timeout_s)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApplianceError(
                f"No appliance server answers on {self.address.words} ({error}). Check --host and "
                "--port, or start one with 'appliance serve'."
            ) from error
        finally:
            connection.close()
        if response.status == http.client.UNAUTHORIZED:
            raise ApplianceError(
                "The server requires an API key. Give --api-key-file FILE with a key that it "
                "accepts."
            )
        return response.status, answer if isinstance(answer, dict) else {}
