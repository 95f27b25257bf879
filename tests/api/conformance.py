"""Requests made up from the OpenAPI description, against the application: no 5xx, and
every answer as described.

Usage: python -m tests.api.conformance NUM_CASES
The whole form, 10,000 cases, takes some minutes; a test runs a short one.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.batches.batches import open_batches
from appliance.gateway.stored_responses.database_store import DatabaseStore
from appliance.gateway.stored_responses.schema import MIGRATIONS
from appliance.protocol.events import AskResult, EmbedResult
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_NOT_CALLED = {"/metrics"}  # Prometheus' text, described elsewhere


def check(num_cases: int, *, strict_parameters: bool = False) -> int:
    """Raises what schemathesis finds; returns how many requests were made, most to the
    endpoints that take a body.
    """
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, "text", [7, 8, 9], [b"te", b"x", b"t"])
    client.embedded = EmbedResult(1, struct.pack("<f", 0.5), 1, 3)
    database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    store = DatabaseStore(database, lifetime_s=3600, max_bytes=1 << 30)
    with tempfile.TemporaryDirectory() as folder:
        batches = open_batches(Path(folder), 1 << 30)
        gateway = gateway_around(client, responses=store, batches=batches)
        app = create_app(gateway, strict_parameters=strict_parameters)
        try:
            return _check_app(app, num_cases)
        finally:
            asyncio.run(store.close())


def _check_app(app: FastAPI, num_cases: int) -> int:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    called = [operation for operation in operations if operation.path not in _NOT_CALLED]
    num_each = num_cases // sum(operation.method == "post" for operation in called) + 1
    return sum(_check_operation(operation, num_each) for operation in called)


def _check_operation(operation: APIOperation, num_cases: int) -> int:
    num_called = 0
    modes = [
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]

    @given(case=st.one_of(modes))
    @settings(
        max_examples=num_cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def call(case: schemathesis.Case) -> None:
        nonlocal num_called
        num_called += 1
        case.call_and_validate(checks=CHECKS)

    call()
    return num_called


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    num_each = int(sys.argv[1]) // 2
    num_called = check(num_each) + check(num_each, strict_parameters=True)
    print(f"{num_called} requests, nothing found")
