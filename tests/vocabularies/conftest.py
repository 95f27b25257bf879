"""One worker for each kind of vocabulary, shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.vocabularies.kinds import KINDS
from tests.vocabularies.made_model import write_made_model
from tests.vocabularies.served import Served, serving, worker_config


@pytest.fixture(scope="session")
def step_times(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("step-times")


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(KINDS))
async def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, step_times: Path
) -> AsyncIterator[Served]:
    kind = str(request.param)
    vocabulary = KINDS[kind]()
    path = write_made_model(tmp_path_factory.mktemp(kind) / f"{kind}.gguf", vocabulary)
    config = worker_config(path, step_times_dir=str(step_times))
    async with serving(kind, vocabulary, config) as one:
        yield one
        assert one.supervisor.health().num_restarts == 0, "a worker was lost"
