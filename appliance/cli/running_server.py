"""The server that runs at --host and --port, asked over HTTP or TLS.

Knows no process, and of its answers only what says that it is ours.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
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
        return cls(address=Address.of(settings), key=_key_in(settings))

    @classmethod
    def at(cls, url: str, settings: ServeSettings) -> RunningServer:
        """Raises `BadSettings` for what is no URL of a server, or an unreadable file."""
        return cls(address=Address.at(url, settings.tls_cert), key=_key_in(settings))

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
                f"{status}). Check {self.address.flags}."
            )
        return answer

    def properties(self, model: str | None, *, timeout_s: float) -> dict[str, Any]:
        """What `/props` answers for a model, the default one for None; loads it.

        Raises `ApplianceError` if no server answers, or it refuses.
        """
        path = "/props" if model is None else f"/props?model={quote(model, safe='')}"
        status, answer = self._get(path, timeout_s)
        if status != http.client.OK:
            raise ApplianceError(_reason(answer, status))
        return answer

    def models(self) -> list[str]:
        """The ids at `/v1/models`, at least one. Raises `ApplianceError`."""
        status, answer = self._get("/v1/models", _TIMEOUT_S)
        records = answer.get("data")
        if status != http.client.OK or not isinstance(records, list):
            raise ApplianceError(
                f"The server on {self.address.words} lists no models (HTTP status {status})."
            )
        if not records:
            raise ApplianceError(f"The server on {self.address.words} has no models.")
        return [str(record["id"]) for record in records]

    def has(self, model: str) -> bool:
        """By its id or an alias. Raises `ApplianceError` if no server answers."""
        status, _ = self._get(f"/v1/models/{quote(model, safe='/')}", _TIMEOUT_S)
        return status == http.client.OK

    def is_there(self) -> bool:
        """Whether anything listens."""
        connection = self.address.connection(_TIMEOUT_S)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    @contextlib.contextmanager
    def asked(
        self, method: str, path: str, *, record: object = None, timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The response, whose body is still to be read; closed at the end, whatever is
        left of it. `record` is sent as JSON; `timeout_s` bounds each silence.

        Raises `ApplianceError` if no server answers, or it wants another key.
        """
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        body = None
        if record is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(record).encode()
        connection = self.address.connection(timeout_s)
        try:
            try:
                connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise self._no_server(error) from error
            with response:
                if response.status == http.client.UNAUTHORIZED:
                    raise ApplianceError(
                        "The server requires an API key. Give --api-key-file FILE with a key that "
                        "it accepts."
                    )
                yield response
        finally:
            connection.close()

    def _get(self, path: str, timeout_s: float) -> tuple[int, dict[str, Any]]:
        with self.asked("GET", path, timeout_s=timeout_s) as response:
            try:
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._no_server(error) from error
        return response.status, answer if isinstance(answer, dict) else {}

    def _no_server(self, error: Exception) -> ApplianceError:
        return ApplianceError(
            f"No appliance server answers on {self.address.words} ({error}). Check "
            f"{self.address.flags}, or start one with 'appliance serve'."
        )


def _key_in(settings: ServeSettings) -> str | None:
    """The first of --api-key-file. Raises `BadSettings` where it cannot be read."""
    keys = read_keys(settings.api_key_file) if settings.api_key_file is not None else []
    return keys[0] if keys else None


def reason_of(response: http.client.HTTPResponse) -> str:
    """Of a refusal, in the server's words where it has any."""
    try:
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        answer = None
    return _reason(answer, response.status)


def _reason(answer: object, status: int) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    reason = error.get("message") if isinstance(error, dict) else None
    return str(reason or f"The server answered with HTTP status {status}.")
