"""Real workers that make vectors, and requests to them, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import EmbedRequest, TextPrompt
from appliance.worker.config import WorkerConfig
from appliance.worker.patience import Patience
from appliance.worker.supervisor import Supervisor
from tests.worker_configs import plain_config


def worker_config(
    model: Path, *, ctx: int = 512, kv_cells: int = 0, embeds: bool = True
) -> WorkerConfig:
    return plain_config(
        model_path=str(model),
        ctx=ctx,
        sizes=ContextSizes(
            kv_cells=kv_cells,
            slots=1,
            max_rows=512,
            kv_type="f16",
            threads=2,
            batch_threads=2,
            ubatch_rows=512,
            flash_attention=True,
        ),
        embeds=embeds,
    )


@asynccontextmanager
async def running(config: WorkerConfig) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(config, Patience(stop_s=20.0))
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


def vectors(embedded: EmbedResult) -> NDArray[np.float32]:
    return np.frombuffer(embedded.values, "<f4").reshape(-1, embedded.num_values)


def texts(inputs: Sequence[str]) -> EmbedRequest:
    return EmbedRequest([TextPrompt(text) for text in inputs])
