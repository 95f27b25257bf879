"""Options that do not agree with each other, and values of one that stand for others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import BadSettings
from appliance.fit.plan.offload import ALL_LAYERS
from appliance.settings import ServeSettings
from tests.settings.given import settings_from


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "128.0.0.1"])
def test_a_public_address_needs_a_key_or_consent(host: str) -> None:
    with pytest.raises(BadSettings, match="--api-key-file FILE, or --insecure"):
        settings_from("--host", host)
    assert settings_from("--host", host, "--insecure").host == host
    assert settings_from("--host", host, "--api-key-file", "keys").api_key_file == Path("keys")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_nothing(host: str) -> None:
    assert settings_from("--host", host).host == host


@pytest.mark.parametrize(
    ("text", "layers"), [("auto", None), ("0", 0), ("20", 20), ("all", ALL_LAYERS)]
)
def test_layers_on_gpus(text: str, layers: int | None) -> None:
    settings = settings_from("--gpu-layers", text, "--tensor-split", "3", "--tensor-split", "0.5")
    assert (settings.gpu_layers, settings.tensor_split) == (layers, (3.0, 0.5))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"flash_attention": False, "kv_type": "q8_0"}, "only flash attention reads quantized KV"),
        (
            {"ubatch_rows": 600},
            r"--ubatch-rows must be at most --max-batch-rows \(got 600 and 512\)",
        ),
    ],
)
def test_contradictions_are_refused(flags: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=message):
        ServeSettings(models_dir=tmp_path, state_dir=tmp_path, **flags)


@pytest.mark.parametrize(
    ("text", "seconds"), [("off", 0), ("OFF", 0), ("30d", 2_592_000), ("90", 90), ("-1", math.inf)]
)
def test_how_long_responses_are_stored(text: str, seconds: float) -> None:
    assert settings_from("--store-responses", text).store_responses.seconds == seconds


def test_stored_for_no_time_is_off() -> None:
    with pytest.raises(BadSettings, match=r"--store-responses must be more than 0, or off"):
        settings_from("--store-responses", "0")
