"""The whole appliance as a user has it: a server process, a real client, bad input, a
kill in the middle.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.serve.server import Server, StartServer, environment, free_port

CHAT = {"messages": [{"role": "user", "content": "The old house by the sea"}]}
ENDLESS = {"prompt": "It was a dark night", "max_tokens": 1500, "ignore_eos": True, "stream": True}


def client(server: Server, api_key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key, max_retries=0)


def data_lines(response: httpx.Response) -> list[str]:
    return [
        line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")
    ]


def test_chat_and_completions_whole_and_streamed_with_the_openai_client(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m", "--log-level", "debug")
    with client(server) as api:
        [model] = [model.id for model in api.models.list()]
        greedy = {"model": model, "temperature": 0, "seed": 1, "max_tokens": 24}
        whole = api.chat.completions.create(**greedy, messages=CHAT["messages"])
        stream = api.chat.completions.create(
            **greedy, messages=CHAT["messages"], stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        completion = api.completions.create(
            **greedy, prompt="It was a dark night", extra_body={"ignore_eos": True}
        )
    assert model == "novels-6m"
    assert text == whole.choices[0].message.content
    assert whole.usage is not None
    streamed = chunks[-1].usage
    assert streamed is not None
    assert streamed.total_tokens == whole.usage.total_tokens
    assert streamed.prompt_tokens_details is not None
    # to repeat an answer without exact rows, whole blocks of 32 or 64 tokens are taken
    # over, or none
    num_cached = streamed.prompt_tokens_details.cached_tokens
    is_exact = server.processes()["models"][0]["exact_rows"]
    assert num_cached == (streamed.prompt_tokens - 1 if is_exact else 0)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 24
    assert completion.choices[0].finish_reason == "length"


def test_bad_requests_are_the_openai_clients_own_exceptions(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    with client(server) as api:
        with pytest.raises(openai.NotFoundError, match="novels-6m"):
            api.completions.create(model="gpt-4", prompt="x")
        with pytest.raises(openai.BadRequestError, match="temperature"):
            api.completions.create(model="novels-6m", prompt="x", temperature=9)
        with pytest.raises(openai.BadRequestError, match="length is 2048 tokens") as too_long:
            api.completions.create(model="novels-6m", prompt="word " * 3000)
        assert too_long.value.code == "context_length_exceeded"
        assert api.completions.create(model="novels-6m", prompt="x", max_tokens=1).usage is not None


def test_keys_are_asked_for_and_never_shown(start_server: StartServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# people\nsecret-one\n")
    keyed = ("--api-key-file", str(keys), "--alias", "house,gpt-4")
    server = start_server("novels-6m", *keyed, "--log-level", "debug")
    with client(server, "wrong") as api, pytest.raises(openai.AuthenticationError):
        api.models.list()
    with client(server, "secret-one") as api:
        assert api.completions.create(model="gpt-4", prompt="x", max_tokens=1).model == "novels-6m"
    assert "secret-one" not in server.log


async def test_eight_clients_share_four_slots_and_one_decode(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--log-level", "debug")
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0
    ) as api:

        async def ask(number: int) -> int:
            stream = await api.completions.create(
                model="novels-6m",
                prompt=f"Chapter {number}. The old man",
                max_tokens=48,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            usage = [chunk.usage async for chunk in stream][-1]
            assert usage is not None
            return usage.completion_tokens

        assert await asyncio.gather(*(ask(number) for number in range(8))) == [48] * 8
    together = [int(n) for n in re.findall(r"rows of (\d+) sequences", server.log)]
    assert max(together) == 4


def test_a_killed_worker_ends_its_stream_with_an_error_and_the_next_request_is_answered(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m")
    with httpx.Client(base_url=server.url, timeout=60) as http:
        with http.stream("POST", "/v1/completions", json=ENDLESS) as response:
            lines = response.iter_lines()
            next(lines)
            server.worker().send_signal(signal.SIGKILL)
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "worker_lost"
        after = http.post("/v1/completions", json={"prompt": "It was", "max_tokens": 4})
        assert after.status_code == 200
    [model] = server.health()["models"]
    assert (model["num_restarts"], model["last_error"]) == (1, "killed by SIGKILL")


def test_term_lets_the_streams_in_flight_finish_and_leaves_no_process(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m", "--drain-s", "60")
    worker = server.worker()
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json={**ENDLESS, "max_tokens": 300}) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        server.await_line("waiting for answers in progress (1)")
        assert server.health()["status"] == "draining"
        refused = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"})
        assert refused.json()["error"]["code"] == "shutting_down"
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert server.process.wait(timeout=60) == 0
    assert not worker.is_running()


def test_term_does_not_wait_longer_than_it_may(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--drain-s", "0")
    worker = server.worker()
    with httpx.stream("POST", f"{server.url}/v1/completions", json=ENDLESS, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert server.process.wait(timeout=60) == 0
    assert not worker.is_running()


def test_a_killed_server_takes_its_worker_along(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    worker = server.worker()
    server.process.kill()
    server.process.wait()
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()


def test_native_code_is_not_in_the_serving_parent(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    mapped = {Path(m.path).name for m in psutil.Process(server.process.pid).memory_maps()}
    in_worker = {Path(m.path).name for m in server.worker().memory_maps()}
    assert not {name for name in mapped if name.startswith(("libllama", "libggml"))}
    assert {name for name in in_worker if name.startswith("libllama")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_conversion_leaves_nothing_unfinished(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "appliance", "serve", "novels-6m"]
    command += ["--port", str(free_port())]
    others = {*psutil.Process().children(recursive=True)}  # that other tests have left
    server = Server(command, 0, environment(tmp_path), tmp_path)
    try:
        server.await_line("converting ")
        server.process.send_signal(number)
        assert server.process.wait(timeout=60) == 0, server.log
        assert {*psutil.Process().children(recursive=True)} <= others
    finally:
        server.end()
    assert "stopped before a model was loaded" in server.log
    assert not [p for p in (tmp_path / ".local").rglob("*") if p.suffix in (".partial", ".gguf")]


def test_as_many_files_may_be_open_as_the_machine_allows() -> None:
    program = """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
from appliance.cli.listening import allow_many_files
allow_many_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["4096", "4096"]


@pytest.mark.parametrize(
    ("flags", "exit_code", "says"),
    [
        (["no-such-model"], 2, "Known names: novels-6m, smollm2-135m"),
        (["--host", "0.0.0.0"], 2, "--api-key-file"),
        (["novels-6m", "--ram", "64MiB"], 3, "Nothing fits"),
        (["--quant", "Q9_9"], 2, "Q9_9"),
        (["novels-6m", "--ctx", "4096"], 2, "2048"),
        (["--port", "99999"], 2, "65535"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    home: Path, flags: list[str], exit_code: int, says: str
) -> None:
    command = [sys.executable, "-m", "appliance", "serve", "--port", str(free_port()), *flags]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(home), check=False, timeout=120
    )
    assert done.returncode == exit_code, done.stderr
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error


def test_a_taken_port_and_a_broken_file_are_told_before_anything_slow(
    home: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + os.urandom(200))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flags, says in (
            (["--port", port], "Address already in use"),
            ([str(broken)], "broken.gguf"),
        ):
            command = [sys.executable, "-m", "appliance", "serve", *flags]
            if "--port" not in flags:
                command += ["--port", str(free_port())]
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=environment(home),
                check=False,
                timeout=120,
            )
            assert done.returncode == 2, done.stderr
            assert says in done.stderr
