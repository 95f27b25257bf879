"""The load generator against a scripted server:
what it counts, and what it refuses to count.
"""

from __future__ import annotations

import asyncio
import json
import random
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.cli.bench.figures import Comparison, Figure, common_figures, quantile
from appliance.cli.bench.stream import Answer, Endpoint, Request, RequestFailed
from appliance.cli.bench.words import random_text
from bench.load import picture, report
from bench.load.rounds import OURS, PEER, Measurement, Results
from bench.load.scenarios import SCENARIOS, Sizes

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_REQUEST = Request("stream 1", " one two", 3)


def event(text: str | None, usage: dict[str, object] | None = None) -> bytes:
    choices = [] if text is None else [{"index": 0, "text": text}]
    return b"data: " + json.dumps({"choices": choices, "usage": usage}).encode() + b"\n\n"


def usage(num_tokens: int) -> dict[str, object]:
    details = {"cached_tokens": 1}
    return {"prompt_tokens": 2, "completion_tokens": num_tokens, "prompt_tokens_details": details}


def chunked(*pieces: bytes) -> bytes:
    return _HEAD + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@asynccontextmanager
async def answering(with_bytes: bytes) -> AsyncIterator[Endpoint]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(with_bytes)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], "model")


async def test_tokens_are_the_servers_count_and_pieces_without_text_are_no_arrivals() -> None:
    whole = b"".join(
        [event("a"), event(""), event("b c"), event(None, usage(3)), b"data: [DONE]\n\n"]
    )
    seen: list[int] = []
    # cut inside events
    async with answering(chunked(whole[:30], whole[30:75], whole[75:])) as endpoint:
        answer = await endpoint.complete(_REQUEST, seen.append)
    assert (answer.num_tokens, len(answer.arrivals_s), len(answer.gaps_s)) == (3, 2, 1)
    assert (answer.num_prompt_tokens, answer.num_cached_tokens) == (2, 1)
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            chunked(event("a"), event(None, usage(2)), b"data: [DONE]\n\n"),
            "3 tokens were asked for",
        ),
        (chunked(event("a"), b"data: [DONE]\n\n"), "the usage is not told"),
        (chunked(b'data: {"error": {"message": "worker lost"}}\n\n'), "worker lost"),
        (chunked(event("a"))[:-5], "IncompleteReadError"),
        (b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\r\nlater", "HTTP 429: later"),
    ],
    ids=["too few tokens", "no usage", "error in the stream", "broken off", "refused"],
)
async def test_an_answer_that_is_not_whole_is_never_counted(answer: bytes, reason: str) -> None:
    async with answering(answer) as endpoint:
        with pytest.raises(RequestFailed, match=reason):
            await endpoint.complete(_REQUEST)


def test_figures() -> None:
    one = Answer(
        label="stream 1",
        sent_s=0.0,
        arrivals_s=[0.5, 0.75, 1.0],
        num_prompt_tokens=10,
        num_cached_tokens=None,
        num_tokens=3,
    )
    other = Answer(
        label="stream 2",
        sent_s=0.25,
        arrivals_s=[1.25, 2.0],
        num_prompt_tokens=10,
        num_cached_tokens=None,
        num_tokens=5,
    )
    found = common_figures([one, other])
    assert (found["ttft_p50_s"], found["ttft_p95_s"]) == (0.75, 1.0)
    assert (found["gap_p50_ms"], found["gap_p99_ms"], found["gap_max_ms"]) == (250, 750, 750)
    assert (found["throughput_tokens_per_s"], found["all_done_s"]) == (4.0, 2.0)
    assert quantile(range(1, 101), 0.95) == 95


def test_gain_is_above_one_where_ours_is_better() -> None:
    sooner = Comparison.of(
        Figure(name="ttft_s", unit="s", least_gain=2), ours=[1.0, 2.0, 4.0], peer=[3.0, 8.0, 4.0]
    )
    assert (sooner.gain.median, sooner.gain.least, sooner.gain.most) == (2.0, 1.0, 4.0)
    assert sooner.is_reached
    faster = Comparison.of(
        Figure(name="decode_tokens_per_s", unit="tokens/s", more_is_better=True), [10.0], [40.0]
    )
    assert faster.gain.median == 0.25
    assert faster.is_reached is None


def test_prompts_are_the_same_for_the_same_seed_and_begin_differently_for_another() -> None:
    texts = [random_text(random.Random(f"1 {number} one_stream"), 40) for number in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0].split()[:8] != texts[2].split()[:8]
    assert len(texts[0].split()) == 40


def test_results_survive_the_file_and_make_a_table_and_a_picture(tmp_path: Path) -> None:
    measured = [
        Measurement(
            scenario=scenario.name,
            server=server,
            round_number=1,
            figures={figure.name: value for figure in scenario.all_figures},
            answers=[
                Answer(
                    label="stream 1",
                    sent_s=0.0,
                    arrivals_s=[0.5, 1.0],
                    num_prompt_tokens=10,
                    num_cached_tokens=1,
                    num_tokens=2,
                )
            ],
            foreign_share=0.5,
            idle_server_share=0.0,
            generator_share=0.001,
        )
        for scenario in SCENARIOS
        for server, value in ((OURS, 1.0), (PEER, 3.0))
    ]
    results = Results(
        date="2026-11-22",
        machine="a <CPU>",
        num_cpus=2,
        model="m.gguf",
        commands={OURS: "a", PEER: "b"},
        sizes=Sizes(),
        measurements=measured,
    )
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    table = report.markdown(results)
    assert (
        "| 8 distinct streams | throughput, tokens/s | 1.00 | 3.00 | 0.333 | gain 2 | **no** |"
        in table
    )
    assert "over 3.0 % in 22 of 22 measurements" in table
    assert ET.fromstring(picture.svg(results)).tag.endswith("svg")
