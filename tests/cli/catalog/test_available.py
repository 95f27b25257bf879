"""`appliance list --available`, and what `auto` means in the place of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from appliance.cli import main
from appliance.cli.catalog.auto import with_auto
from appliance.errors import NothingFits
from appliance.fit.machine.bandwidth import Bandwidth, BandwidthKey, BandwidthMemory
from appliance.fit.machine.device import measure_device
from appliance.settings import ServeSettings
from appliance.settings.sources import load
from appliance.store.known.hub_models import load_hub_models

BANDWIDTH = Bandwidth(
    copy_bytes_per_s=1e15, threads=1, copied_bytes=1, spread=1.0, cached=False, date="2026-11-30"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a machine whose bandwidth is known: it is not measured."""
    device = measure_device()
    key = BandwidthKey(device.cpu_name or "", device.ram_total_bytes, device.threads)
    (tmp_path / "state").mkdir()
    BandwidthMemory(tmp_path / "state").remember(key, BANDWIDTH)
    return {
        "HOME": str(tmp_path),
        "APPLIANCE_STATE_DIR": str(tmp_path / "state"),
        "APPLIANCE_MODELS_DIR": str(tmp_path / "models"),
    }


def settings(environment: dict[str, str], **flags: object) -> ServeSettings:
    return load(ServeSettings, flags, environment)


def test_what_fits_is_listed(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--available", "--ram", "1200MiB"], environment) == 0

    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if "qwen3-0.6b" in line)
    assert row.split()[:4] == ["qwen3-0.6b", "chat", "0.6", "B"]
    assert "qwen3-4b" not in text
    assert f"of {len(load_hub_models())} models fit in the" in text


def test_as_json_with_what_does_not_fit(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--available", "--json", "--ram", "1200MiB"], environment) == 0

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == len(load_hub_models())
    tiny, large = rows["smollm2-135m-instruct"], rows["qwen3-8b"]
    assert (tiny["fits"], tiny["quantization"], large["fits"]) == (True, "Q8_0", False)
    assert tiny["tokens_per_s"] == 1e15 / tiny["sizes"]["Q8_0"]
    assert large["draft"] == "Qwen/Qwen3-0.6B-GGUF:Q8_0"


def test_what_is_here_as_json(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--json"], environment) == 0

    [novels] = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "novels-6m"]
    assert (novels["licence"], novels["files"]) == ("MIT", [])


def test_auto_is_the_best_chat_model_and_says_why(environment: dict[str, str]) -> None:
    said: list[str] = []
    given = settings(environment, model=["novels-6m", "auto"], ram="1200MiB")

    chosen = with_auto(given, said.append)

    assert chosen == replace(given, model=("novels-6m", chosen.model[1]))
    model = next(each for each in load_hub_models() if each.name == chosen.model[1])
    assert model.kind == "chat"
    [why] = said
    assert why.startswith(f"auto: {model.name} (Apache-2.0) is the best chat model that fits: ")
    assert why.endswith(f" will be downloaded from {model.repository}")
    assert with_auto(settings(environment, model=["novels-6m"]), said.append).model == (
        "novels-6m",
    )


def test_auto_where_nothing_fits_is_refused_with_numbers(environment: dict[str, str]) -> None:
    with pytest.raises(NothingFits, match="Nothing of the catalog fits: the smallest model"):
        with_auto(settings(environment, model=["auto"], ram="300MiB"), lambda _text: None)


def test_pull_auto_says_what_it_will_download_and_refuses_without_a_network(
    environment: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert main(["pull", "auto", "--ram", "1200MiB"], environment) == 1

    first, *_, last = capfd.readouterr().err.splitlines()
    assert first.startswith("auto: ")
    assert "HF_HUB_OFFLINE is set" in last
