"""Stored responses with the real model: what is continued is in the KV cache, a restart
keeps them, and what ran when the server was killed has failed.
"""

from __future__ import annotations

import signal
from pathlib import Path

import openai

from tests.serve.server import StartServer


def test_what_is_continued_is_cached_and_survives_the_server(
    start_server: StartServer, tmp_path: Path
) -> None:
    # What is taken of a prefix is counted to the token, also where rows are not exact.
    flags = ("novels-6m", "--ctx", "2048", "--repeatable", "off")
    flags = (*flags, "--state-dir", str(tmp_path / "state"))
    endless = {"ignore_eos": True}
    server = start_server(*flags)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        first = api.responses.create(
            model=model,
            input="Once upon a time there was a house by the sea.",
            max_output_tokens=12,
            temperature=0,
            extra_body=endless,
        )
        second = api.responses.create(
            model=model,
            input="And then?",
            previous_response_id=first.id,
            max_output_tokens=4,
            temperature=0,
            extra_body=endless,
        )
        assert first.usage is not None
        assert second.usage is not None
        assert (first.usage.input_tokens, first.usage.output_tokens) == (24, 12)
        # all of it but its last token, which was sampled and never computed
        assert second.usage.input_tokens_details.cached_tokens == 24 + 12 - 1
        running = api.responses.create(
            model=model,
            input="Tell me of the sea.",
            max_output_tokens=1900,
            background=True,
            extra_body=endless,
        )
        while api.responses.retrieve(running.id).status == "queued":
            pass
    server.process.send_signal(signal.SIGKILL)
    server.end()

    server = start_server(*flags)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        assert api.responses.retrieve(first.id) == first
        lost = api.responses.retrieve(running.id)
        assert lost.error is not None
        assert (lost.status, lost.error.code) == ("failed", "server_stopped")
        third = api.responses.create(
            model=model,
            input="And then?",
            previous_response_id=second.id,
            max_output_tokens=4,
            extra_body=endless,
        )
        assert third.usage is not None
        assert third.usage.input_tokens > second.usage.input_tokens
    assert [path.name for path in (tmp_path / "state").glob("responses.sqlite")]
