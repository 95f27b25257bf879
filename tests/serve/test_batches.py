"""Batches through OpenAI's client, with the real model: beside somebody who talks, and
across a kill.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import psutil
from openai.types import Batch

from tests.serve.server import AWAIT_S, Server, StartServer

URL = "/v1/completions"
NUM_LINES, NUM_TOKENS = 6, 150


def test_a_batch_gives_way_and_survives_a_kill(start_server: StartServer, tmp_path: Path) -> None:
    flags = ("novels-6m", "--slots", "2", "--ctx", "512", "--state-dir", str(tmp_path / "state"))
    server = start_server(*flags)
    with client_of(server) as api:
        batch = begin(api)
        await_recorded(tmp_path, 2)
        stream = api.completions.create(
            model="novels-6m",
            prompt="Hello",
            max_tokens=450,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        for _ in range(20):
            next(stream)
        recorded = results_in(tmp_path)
        for _ in range(300):
            next(stream)
        assert results_in(tmp_path) == recorded  # nothing was computed beside the stream
        [worker] = psutil.Process(server.process.pid).children()
        server.process.kill()
        server.process.wait()
        psutil.wait_procs([worker], AWAIT_S)
    assert results_in(tmp_path) == recorded
    assert 2 <= len(recorded) < NUM_LINES

    second = start_server(*flags)
    with client_of(second) as api:
        batch = ended(api, batch)
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.total) == (6, 6)
        assert batch.error_file_id is None
        output = api.files.content(batch.output_file_id or "").text.splitlines()
        assert api.models.list().data  # it serves as before
    by_id = {json.loads(line)["custom_id"]: line for line in output}
    assert len(output) == len(by_id) == NUM_LINES
    for custom_id, line in recorded.items():
        assert by_id[custom_id] == line  # to the letter, its random id too: not computed again
    for line in output:
        body = json.loads(line)["response"]["body"]
        assert body["usage"]["completion_tokens"] == NUM_TOKENS


def client_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def begin(api: openai.OpenAI) -> Batch:
    lines = [line(f"line-{number}", f"Once upon a time {number}") for number in range(NUM_LINES)]
    content = "\n".join(json.dumps(each) for each in lines).encode()
    file = api.files.create(file=("lines.jsonl", content), purpose="batch")
    return api.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")


def line(custom_id: str, prompt: str) -> dict[str, Any]:
    body = {"prompt": prompt, "max_tokens": NUM_TOKENS, "temperature": 0, "ignore_eos": True}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}


def ended(api: openai.OpenAI, batch: Batch) -> Batch:
    end_s = time.monotonic() + AWAIT_S
    while batch.status in ("validating", "in_progress", "finalizing"):
        assert time.monotonic() < end_s, batch
        batch = api.batches.retrieve(batch.id)
    return batch


def await_recorded(folder: Path, num_lines: int) -> None:
    end_s = time.monotonic() + AWAIT_S
    while len(results_in(folder)) < num_lines:
        assert time.monotonic() < end_s, "no line is answered"


def results_in(folder: Path) -> dict[str, str]:
    """The results that the database holds, by custom id."""
    path = folder / "state" / "batches.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT custom_id, result FROM lines WHERE result IS NOT NULL")
        return {custom_id: result.decode() for custom_id, result in rows}
