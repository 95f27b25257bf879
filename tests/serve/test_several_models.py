"""Several models in one server, as a user has them: loaded when asked for, unloaded
when not, each for itself.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from appliance.fit.plan.footprint import CODE_BYTES
from tests.conftest import CHECKPOINT, Embedded
from tests.serve.server import Server, StartServer, environment, free_port

ENDLESS: dict[str, Any] = {"prompt": "It was a dark night", "max_tokens": 400, "stream": True}
RAW_ENDLESS = {**ENDLESS, "ignore_eos": True}
SMALL = ("--ctx", "512", "--slots", "2", "--prefix-host-bytes", "0")


@pytest.fixture
def models(tmp_path: Path, embedded: Embedded) -> list[str]:
    """The embedded model by two names, in two quantizations."""
    paths = []
    for name, quantization in (("novels", "Q8_0"), ("verse", "Q4_K_M")):
        path = tmp_path / f"{name}.gguf"
        path.symlink_to(embedded.files[quantization])
        paths.append(str(path))
    return paths


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_two_models_by_their_names_and_aliases(
    start_server: StartServer, models: list[str]
) -> None:
    server = start_server(*models, *SMALL, "--alias", "gpt-4", "--alias", "poet=verse")
    with client(server) as api:
        listed = {model.id: model.model_extra or {} for model in api.models.list()}
        answers = [
            api.completions.create(model=name, prompt="x", max_tokens=1)
            for name in ("poet", "gpt-4", "novels", "verse")
        ]
        with pytest.raises(
            openai.NotFoundError, match="Served: 'novels', 'gpt-4', 'verse', 'poet'"
        ):
            api.completions.create(model="gpt-9", prompt="x")
        after = {model.id: model.model_extra or {} for model in api.models.list()}
    assert {
        name: (extra["loaded"], extra["quantization"], extra["aliases"])
        for name, extra in listed.items()
    } == {
        "novels": (True, "Q8_0", ["gpt-4"]),
        "verse": (False, None, ["poet"]),
        "auto": (True, None, []),
    }
    assert [answer.model for answer in answers] == ["verse", "novels", "novels", "verse"]
    assert len({answer.system_fingerprint for answer in answers}) == 2, (
        "known also where the request loaded the model"
    )
    assert (after["verse"]["loaded"], after["verse"]["quantization"]) == (True, "Q4_K - Medium")


def test_a_model_kept_for_no_time_goes_and_comes_again(
    start_server: StartServer, models: list[str]
) -> None:
    server = start_server(*models, *SMALL, "--preload", "none", "--keep-alive", "verse=0")
    assert (server.health()["status"], server.states()) == (
        "ok",
        {"novels": "unloaded", "verse": "unloaded"},
    )
    with client(server) as api:
        for number in (1, 2):
            with api.completions.create(
                **ENDLESS, model="verse", extra_body={"ignore_eos": True}
            ) as stream:
                next(iter(stream))
                [worker] = psutil.Process(server.process.pid).children()
                assert server.states()["verse"] == "loaded"
            psutil.wait_procs([worker], timeout=30)
            assert not worker.is_running()
            assert server.log.count("verse is being loaded") == number
        api.completions.create(prompt="x", max_tokens=1, model="novels")
    assert server.states() == {"novels": "loaded", "verse": "unloaded"}


def test_a_killed_worker_is_nothing_to_the_other_models_streams(
    start_server: StartServer, models: list[str]
) -> None:
    server = start_server(*models, *SMALL, "--preload", "novels", "--preload", "verse")
    workers = server.processes()["workers"]
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json={**RAW_ENDLESS, "model": "novels"}) as lives,
        http.stream("POST", "/v1/completions", json={**RAW_ENDLESS, "model": "verse"}) as dies,
    ):
        living, dying = lives.iter_lines(), dies.iter_lines()
        next(living), next(dying)
        psutil.Process(workers["verse"]["pid"]).send_signal(signal.SIGKILL)
        error = json.loads([line for line in dying if line][-1].removeprefix("data: "))["error"]
        assert error["code"] == "worker_lost"
        assert [line for line in living if line][-1] == "data: [DONE]"
        assert (
            http.post(
                "/v1/completions", json={"model": "verse", "prompt": "x", "max_tokens": 1}
            ).status_code
            == 200
        )
    now = server.processes()["workers"]
    assert now["novels"]["pid"] == workers["novels"]["pid"]
    assert now["verse"]["pid"] != workers["verse"]["pid"]


def test_a_model_that_cannot_be_served_costs_only_its_own_requests(
    start_server: StartServer, models: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(200))
    server = start_server(*models, str(broken), *SMALL)
    with client(server) as api:
        with pytest.raises(
            openai.InternalServerError, match="The model 'broken' cannot be loaded now: "
        ) as raised:
            api.completions.create(model="broken", prompt="x")
        assert (raised.value.status_code, raised.value.code) == (503, "model_unavailable")
        assert raised.value.response.headers["retry-after"] == "5"
        assert api.completions.create(model="novels", prompt="x", max_tokens=1).model == "novels"
    health = server.health()
    assert health["status"] == "ok"
    assert health["reason"].startswith("broken is failed: ")


def test_a_checkpoint_is_converted_when_its_model_is_first_asked_for(
    start_server: StartServer, models: list[str], tmp_path: Path
) -> None:
    kept = tmp_path / "models"
    server = start_server(
        models[0], "novels-6m", *SMALL, "--quant", "Q8_0", "--models-dir", str(kept)
    )
    for file in kept.rglob("*.*"):  # made if the first start ever had to look at the CPU
        file.unlink()
    with client(server) as api:
        assert (
            api.completions.create(model="novels-6m", prompt="x", max_tokens=1).model == "novels-6m"
        )
    assert f"converting {CHECKPOINT} to Q8_0" in server.log
    assert [file.name for file in kept.rglob("*.gguf")] == ["novels-6m-Q8_0.gguf"]


def test_a_stop_while_a_model_loads_leaves_nothing_behind(
    start_server: StartServer, models: list[str]
) -> None:
    server = start_server(*models, *SMALL, "--drain-s", "0")
    with ThreadPoolExecutor(1) as waiting:
        url = f"{server.url}/v1/completions"
        asked = waiting.submit(httpx.post, url, json={"model": "verse", "prompt": "x"}, timeout=60)
        server.await_line("verse is being loaded")
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().json()["error"]["code"] == "shutting_down"
    assert server.process.wait(timeout=60) == 0, server.log
    psutil.wait_procs(children, timeout=30)
    assert not any(child.is_running() for child in children)


def test_ps_shows_processes_memory_and_what_they_do(
    start_server: StartServer, models: list[str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-one\n")
    server = start_server(*models, *SMALL, "--api-key-file", str(keys), "--keep-alive", "1h")
    port = server.url.rpartition(":")[2]

    def ps(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "appliance", "ps", "--port", port, *flags]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment(tmp_path)
        )

    refused = ps()
    assert (refused.returncode, "requires an API key" in refused.stderr) == (1, True)
    shown = ps("--api-key-file", str(keys))
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.startswith("  ")}
    assert {"server", "novels", "verse"} <= rows.keys()
    assert rows["novels"].split()[1] == "loaded"
    left_min = re.search(r"(\d+) min", rows["novels"])
    assert left_min is not None
    assert 30 < int(left_min[1]) <= 60  # of an hour, on a machine of any speed
    assert rows["verse"].split()[1] == "unloaded"
    report = json.loads(ps("--api-key-file", str(keys), "--json").stdout)
    worker, (novels, _) = report["workers"]["novels"], report["models"]
    memory = worker["memory"]
    assert psutil.Process(worker["pid"]).ppid() == server.process.pid == report["server"]["pid"]
    assert 0 < memory["anonymous_bytes"] < memory["pss_bytes"] <= memory["rss_bytes"]
    # which is counted once for all
    assert memory["pss_bytes"] < novels["predicted_bytes"] + CODE_BYTES
    assert (novels["num_requests"], novels["num_waiting"], novels["quantization"]) == (0, 0, "Q8_0")
    nobody = [sys.executable, "-m", "appliance", "ps", "--port", str(free_port())]
    assert (
        subprocess.run(
            nobody, capture_output=True, check=False, env=environment(tmp_path)
        ).returncode
        == 1
    )
