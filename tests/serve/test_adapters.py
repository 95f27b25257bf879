"""Adapters through a real server, driven by OpenAI's client."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from tests.adapter_files import write_control_vector, write_lora
from tests.conftest import Embedded
from tests.serve.server import Server, StartServer, environment, free_port

PROMPT = (
    "The old house by the sea had stood empty for many years, and nobody in the village would go "
    "near it. "
) * 4
NAMES = ("tale:one", "tale:two", "tale:calm", "tale")


@dataclass(frozen=True)
class House:
    """A server with adapters, and a client of it."""

    server: Server
    models_dir: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)

    def answer(self, model: str, prompt: str = PROMPT, **extra: object) -> str:
        completion = self.client.completions.create(
            model=model, prompt=prompt, max_tokens=24, temperature=0, extra_body=extra
        )
        return completion.choices[0].text

    def cached(self, model: str, prompt: str) -> int:
        completion = self.client.completions.create(
            model=model, prompt=prompt, max_tokens=1, temperature=0
        )
        assert completion.usage is not None
        details = completion.usage.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0


def make_models(folder: Path, model: Path) -> Path:
    (folder / "tale").mkdir(parents=True)
    shutil.copy(model, folder / "tale" / "tale-Q8_0.gguf")
    write_lora(folder / "adapters" / "tale" / "two.gguf", model, 2)
    write_lora(folder / "one.gguf", model, 1)
    write_control_vector(folder / "calm.gguf", model, 3, strength=3.0)
    return folder


@pytest.fixture
def house(start_server: StartServer, embedded: Embedded, tmp_path: Path) -> House:
    models = make_models(tmp_path / "models", embedded.files["Q8_0"])
    return House(start_with(start_server, models), models)


def start_with(start_server: StartServer, models: Path, *flags: str) -> Server:
    return start_server(
        "tale",
        *("--models-dir", str(models), "--ctx", "512"),
        *("--lora", f"one={models / 'one.gguf'}:0.8"),
        *("--control-vector", f"calm={models / 'calm.gguf'}"),
        *flags,
    )


def test_openais_client_asks_for_adapters_by_the_models_name(house: House) -> None:
    assert [model.id for model in house.client.models.list()] == [
        "tale",
        "tale:one",
        "tale:calm",
        "tale:two",
    ]
    alone = {name: house.answer(name) for name in NAMES}
    assert len(set(alone.values())) == 4
    assert house.answer("tale", lora=[{"id": 0}]) == alone["tale:one"]
    assert house.answer("tale", lora=[{"id": "one", "scale": 0.8}]) == alone["tale:one"]
    assert house.answer("tale", lora=[{"id": 0, "scale": 0.1}]) != alone["tale:one"]
    assert house.answer("tale:one", lora=[]) == alone["tale"]
    assert house.answer("tale", control_vectors=[{"id": "calm"}]) == alone["tale:calm"]
    # beside each other, each says what it says alone
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(house.answer, NAMES * 3))
    assert found == [alone[name] for name in NAMES * 3]


def test_prefixes_are_shared_within_an_adapter_alone(house: House) -> None:
    assert [house.cached(name, PROMPT) for name in NAMES] == [0, 0, 0, 0]
    assert min(house.cached(name, PROMPT) for name in NAMES) > 60


def test_usual_scales_change_what_is_said_without_a_name(house: House) -> None:
    one, plain = house.answer("tale:one"), house.answer("tale")
    url = f"{house.server.url}/lora-adapters"
    httpx.post(url, json=[{"id": 0, "scale": 0.8}]).raise_for_status()
    assert house.answer("tale") == one
    httpx.post(url, json=[]).raise_for_status()
    assert house.answer("tale") == plain


def test_exact_answers_with_adapters_are_refused(house: House) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        house.answer("tale:one", exact=True)
    assert "Answers with adapters are not exact" in str(refused.value)


def test_prefixes_outlive_a_restart_with_their_adapters(
    start_server: StartServer, embedded: Embedded, tmp_path: Path
) -> None:
    models = make_models(tmp_path / "models", embedded.files["Q8_0"])
    kept = ("--resident-prefix-cells", "0", "--state-dir", str(tmp_path / "state"))
    flags = ("--repeatable", "off", *kept)
    prompt = PROMPT * 3  # long enough for a file
    first = House(start_with(start_server, models, *flags), models)
    for _ in range(2):
        first.cached("tale:one", prompt)
    first.server.process.terminate()
    first.server.process.wait(30)
    again = House(start_with(start_server, models, *flags), models)
    assert again.cached("tale:two", prompt) == again.cached("tale", prompt) == 0
    assert again.cached("tale:one", prompt) > 200


def serve(models: Path, home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", "serve", "tale", "--no-tune"]
    command += ["--port", str(free_port()), "--kernels", "off", "--models-dir", str(models), *flags]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(home), check=False
    )


def test_a_file_that_nobody_could_use_is_refused_before_anything_is_loaded(
    embedded: Embedded, tmp_path: Path
) -> None:
    models = make_models(tmp_path / "models", embedded.files["Q8_0"])
    (models / "one.gguf").write_bytes((models / "one.gguf").read_bytes()[:5000])
    ended = serve(models, tmp_path, "--lora", f"one={models / 'one.gguf'}")
    assert ended.returncode == 2, ended.stderr
    assert "one.gguf is not a usable GGUF file" in ended.stderr
    folder = models / "adapters" / "tale"
    (folder / "two.gguf").rename(folder / "two: of them.gguf")
    ended = serve(models, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "two: of them.gguf names an adapter that no request could" in ended.stderr


def test_one_that_computes_no_numbers_is_named_and_its_model_not_blamed(
    home: Path, embedded: Embedded, tmp_path: Path
) -> None:
    models = make_models(tmp_path / "models", embedded.files["Q8_0"])
    broken = write_lora(models / "broken.gguf", embedded.files["Q8_0"], 1, strength=float("nan"))
    ended = serve(models, home, "--lora", f"broken={broken}")
    assert ended.returncode == 1, ended.stderr
    assert f"cannot compute with the LoRA adapter broken ({broken})" in ended.stderr
    assert "is not served for" not in ended.stderr
