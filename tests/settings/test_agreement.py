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


def test_tls_takes_a_certificate_and_an_address() -> None:
    with pytest.raises(BadSettings, match="--tls-key needs --tls-cert FILE"):
        settings_from("--tls-key", "key.pem")
    with pytest.raises(BadSettings, match="nobody can listen in on a Unix socket"):
        settings_from("--tls-cert", "cert.pem", "--host", "unix:/run/appliance.sock")
    assert settings_from("--tls-cert", "cert.pem").tls_key is None


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
