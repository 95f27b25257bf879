"""The order of a model's files:
as measured where all were measured alike, else as published.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from appliance.fit.plan.budget import Budget
from appliance.fit.plan.planner import make_plan
from appliance.fit.plan.quality import QUALITY_ORDER, quality_rank, rank
from appliance.fit.tuning.choices import Tuning
from appliance.store.ggml_types import FILE_TYPES
from appliance.store.gguf_header import GgufHeader, read_header
from tests.fit.plan.plan_inputs import DEVICE, OVERRIDES, SAMPLE
from tests.store.samples import Type, write_sample

TEXT, OTHER_TEXT, REFERENCE = "1" * 64, "2" * 64, "3" * 64
TYPES = {
    "Q8_0": (gguf.LlamaFileType.MOSTLY_Q8_0, Type.Q8_0),
    "Q4_0": (gguf.LlamaFileType.MOSTLY_Q4_0, Type.Q4_0),
    "Q2_K": (gguf.LlamaFileType.MOSTLY_Q2_K, Type.Q2_K),
}


@pytest.fixture
def headers(tmp_path: Path) -> dict[str, GgufHeader]:
    """One model in three types."""
    return {
        name: read_header(
            write_sample(
                tmp_path / f"m-{name}.gguf",
                replace(SAMPLE, file_type=file_type, ggml_type=ggml_type),
            )
        )
        for name, (file_type, ggml_type) in TYPES.items()
    }


def measurement(
    kl: float, text: str = TEXT, num_windows: int = 4, reference: str = REFERENCE
) -> dict[str, Any]:
    """As `appliance-convert evaluate` documents it."""
    return {
        "text": {"name": "some.txt", "sha256": text},
        "window_tokens": 512,
        "num_windows": num_windows,
        "is_whole_text": False,
        "kv_type": "f16",
        "reference": {"name": "m-F32.gguf", "sha256": reference},
        "quality": {
            "num_tokens": 1020,
            "perplexity": {"value": 9.0, "standard_error": 0.1},
            "divergence": {"kl_mean": {"value": kl, "standard_error": 0.001}},
        },
        "llama_cpp_version": "0.3.36",
        "measured_on": "2026-11-23",
    }


def sha256_of(header: GgufHeader) -> str:
    return hashlib.sha256(header.path.read_bytes()).hexdigest()


def write_sidecar(header: GgufHeader, *measurements: dict[str, Any]) -> Path:
    path = header.path.with_name(f"{header.path.name}.quality.json")
    modified_ns = header.path.stat().st_mtime_ns
    file = {
        "sha256": sha256_of(header),
        "num_bytes": header.num_file_bytes,
        "modified_ns": modified_ns,
    }
    path.write_text(json.dumps({"format": 1, "file": file, "measurements": measurements}))
    return path


def order(headers: dict[str, GgufHeader]) -> list[str]:
    return [header.quantization for header in rank(list(headers.values())).headers]


def test_measured_alike_the_least_divergence_is_first(headers: dict[str, GgufHeader]) -> None:
    for name, kl in (("Q8_0", 0.5), ("Q4_0", 0.25), ("Q2_K", 0.125)):
        write_sidecar(headers[name], measurement(kl))

    plan = make_plan(
        list(headers.values()), OVERRIDES, DEVICE, Budget(1 << 34, 0, "for the test"), Tuning()
    )
    assert order(headers) == ["Q2_K", "Q4_0", "Q8_0"]
    assert plan.quantization == "Q2_K"
    assert plan.reason.startswith(
        "Q2_K is the best quantization (as measured: mean KL divergence 0.1250 nats) that fits "
        "with context"
    )


def test_the_reference_itself_is_none_off(headers: dict[str, GgufHeader]) -> None:
    write_sidecar(headers["Q8_0"])
    for name, kl in (("Q4_0", 0.25), ("Q2_K", 0.125)):
        write_sidecar(headers[name], measurement(kl, reference=sha256_of(headers["Q8_0"])))

    assert order(headers) == ["Q8_0", "Q2_K", "Q4_0"]


def test_of_several_texts_the_longest_that_all_share_decides(
    headers: dict[str, GgufHeader],
) -> None:
    for name, short, long in (("Q8_0", 0.1, 0.3), ("Q4_0", 0.2, 0.2), ("Q2_K", 0.3, 0.1)):
        write_sidecar(
            headers[name], measurement(short), measurement(long, OTHER_TEXT, num_windows=8)
        )
    write_sidecar(
        headers["Q2_K"],
        measurement(0.0, num_windows=99),
        measurement(0.1, OTHER_TEXT, num_windows=8),
    )

    assert order(headers) == ["Q2_K", "Q4_0", "Q8_0"]


@pytest.mark.parametrize(
    "other",
    [
        measurement(0.0, text=OTHER_TEXT),
        measurement(0.0, num_windows=5),
        measurement(0.0, reference="4" * 64),
        {**measurement(0.0), "kv_type": "q8_0"},
        {**measurement(0.0), "reference": None},
    ],
)
def test_measured_otherwise_the_published_order_stays(
    other: dict[str, Any], headers: dict[str, GgufHeader], caplog: pytest.LogCaptureFixture
) -> None:
    write_sidecar(headers["Q8_0"], measurement(0.5))
    write_sidecar(headers["Q4_0"], measurement(0.25))
    assert order(headers) == ["Q8_0", "Q4_0", "Q2_K"]  # one is not measured at all
    write_sidecar(headers["Q2_K"], other)

    assert order(headers) == ["Q8_0", "Q4_0", "Q2_K"]
    assert rank(list(headers.values())).source_of(headers["Q8_0"]) == "by published quality"
    assert caplog.records == []


def truncate(sidecar: Path, _model: Path) -> None:
    sidecar.write_bytes(sidecar.read_bytes()[:100])


def blow_up(sidecar: Path, _model: Path) -> None:
    sidecar.write_bytes(sidecar.read_bytes() + b" " * (1 << 20))


def nest(sidecar: Path, _model: Path) -> None:
    sidecar.write_bytes(b"[" * 100_000)


def go_negative(sidecar: Path, _model: Path) -> None:
    sidecar.write_text(sidecar.read_text().replace("0.125", "-0.125"))


def come_from_the_future(sidecar: Path, _model: Path) -> None:
    sidecar.write_text(sidecar.read_text().replace('"format": 1', '"format": 2'))


def change_model(_sidecar: Path, model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    os.utime(model, ns=(1, 1))


def grow_model(_sidecar: Path, model: Path) -> None:
    modified_ns = model.stat().st_mtime_ns
    model.write_bytes(model.read_bytes() + b"\0")
    os.utime(model, ns=(modified_ns, modified_ns))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncate, "is not a usable quality record"),
        (blow_up, "it is larger than 1048576 bytes"),
        (nest, "is not a usable quality record"),
        (go_negative, "is not a usable quality record"),
        (come_from_the_future, "its format is 2, but only 1 is supported"),
        (change_model, "was measured on another version of m-Q2_K.gguf"),
        (grow_model, "was measured on another version of m-Q2_K.gguf"),
    ],
)
def test_what_is_damaged_or_stale_is_logged_once_and_not_used(
    damage: Callable[[Path, Path], None],
    complaint: str,
    headers: dict[str, GgufHeader],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, kl in (("Q8_0", 0.5), ("Q4_0", 0.25)):
        write_sidecar(headers[name], measurement(kl))
    damage(write_sidecar(headers["Q2_K"], measurement(0.125)), headers["Q2_K"].path)

    with caplog.at_level(logging.WARNING):
        assert order(headers) == order(headers) == ["Q8_0", "Q4_0", "Q2_K"]
    assert len(caplog.records) == 1
    assert complaint in caplog.text


def test_a_touched_file_of_the_same_content_is_as_measured(headers: dict[str, GgufHeader]) -> None:
    for name, kl in (("Q8_0", 0.5), ("Q4_0", 0.25), ("Q2_K", 0.125)):
        write_sidecar(headers[name], measurement(kl))
        os.utime(headers[name].path, ns=(7, 7))

    assert order(headers) == ["Q2_K", "Q4_0", "Q8_0"]


def test_every_known_file_type_has_its_place_in_the_order() -> None:
    assert set(FILE_TYPES.values()) == set(QUALITY_ORDER)
    assert (
        quality_rank("Q8_0") < quality_rank("Q4_K_M") < quality_rank("Q2_K") < quality_rank("NOVEL")
    )
