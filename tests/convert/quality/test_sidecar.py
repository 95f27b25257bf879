"""What is kept beside a GGUF: read back as written, never believed when it is damaged
or of another content.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from convert.quality.sidecar import (
    FileState,
    Measurement,
    NamedContent,
    add_recorded,
    read_recorded,
    read_state,
    replacing,
    sidecar_path,
)
from convert.quality.statistics import Divergence, Estimate, Quality

TEXT, REFERENCE = "a" * 64, "b" * 64
QUALITY = Quality(
    num_tokens=510,
    perplexity=Estimate(57.25, 1.5),
    divergence=Divergence(
        kl_mean=Estimate(0.25, 0.01),
        kl_p99=Estimate(1.5, 0.2),
        top1=Estimate(0.75, 0.02),
        reference_perplexity=Estimate(55.0, 1.5),
        perplexity_ratio=Estimate(1.04, 0.01),
    ),
)
MEASUREMENT = Measurement(
    text=NamedContent("some.txt", TEXT),
    window_tokens=512,
    num_windows=2,
    is_whole_text=False,
    kv_type="f16",
    reference=NamedContent("m-F32.gguf", REFERENCE),
    quality=QUALITY,
    llama_cpp_version="0.3.36",
    measured_on=datetime.date(2026, 11, 23),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m-Q2_K.gguf"
    path.write_bytes(b"weights")
    return path


def test_what_is_written_is_read(model: Path) -> None:
    alone = msgspec.structs.replace(
        MEASUREMENT, reference=None, quality=replace(QUALITY, divergence=None)
    )
    add_recorded(model, read_state(model), MEASUREMENT)
    written = add_recorded(model, read_state(model), alone)

    assert written == sidecar_path(model) == model.parent / "m-Q2_K.gguf.quality.json"
    recorded = read_recorded(model, read_state(model))
    assert (recorded.measurements, recorded.warning) == ((MEASUREMENT, alone), None)
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "m-Q2_K.gguf",
        "m-Q2_K.gguf.quality.json",
    ]


def test_the_format_is_what_is_documented(model: Path) -> None:
    add_recorded(model, read_state(model), MEASUREMENT)

    record = json.loads(sidecar_path(model).read_bytes())
    assert record == {
        "format": 1,
        "file": {
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "num_bytes": 7,
            "modified_ns": model.stat().st_mtime_ns,
        },
        "measurements": [
            {
                "text": {"name": "some.txt", "sha256": TEXT},
                "window_tokens": 512,
                "num_windows": 2,
                "is_whole_text": False,
                "kv_type": "f16",
                "reference": {"name": "m-F32.gguf", "sha256": REFERENCE},
                "quality": {
                    "num_tokens": 510,
                    "perplexity": {"value": 57.25, "standard_error": 1.5},
                    "divergence": {
                        "kl_mean": {"value": 0.25, "standard_error": 0.01},
                        "kl_p99": {"value": 1.5, "standard_error": 0.2},
                        "top1": {"value": 0.75, "standard_error": 0.02},
                        "reference_perplexity": {"value": 55.0, "standard_error": 1.5},
                        "perplexity_ratio": {"value": 1.04, "standard_error": 0.01},
                    },
                },
                "llama_cpp_version": "0.3.36",
                "measured_on": "2026-11-23",
            }
        ],
    }


def test_measuring_again_replaces_what_it_repeats() -> None:
    other_kv = msgspec.structs.replace(MEASUREMENT, kv_type="q8_0")
    longer = msgspec.structs.replace(MEASUREMENT, num_windows=9, is_whole_text=True)
    again = msgspec.structs.replace(MEASUREMENT, measured_on=datetime.date(2027, 1, 1))

    assert replacing([MEASUREMENT, other_kv, longer], again) == [other_kv, longer, again]


@pytest.mark.parametrize(
    ("num_windows", "is_whole_text", "asked", "answers"),
    [
        (9, False, 9, True),
        (9, False, 10, False),
        (9, False, None, False),
        (9, True, None, True),
        (9, True, 10, True),
        (9, True, 9, True),
        (9, True, 8, False),
    ],
)
def test_as_many_windows_as_asked_for_or_all_there_are(
    num_windows: int, is_whole_text: bool, asked: int | None, answers: bool
) -> None:
    measured = msgspec.structs.replace(
        MEASUREMENT, num_windows=num_windows, is_whole_text=is_whole_text
    )

    assert measured.answers(MEASUREMENT.request, asked) is answers
    assert not measured.answers(replace(MEASUREMENT.request, reference_sha256=None), asked)


def test_another_content_is_stale_and_the_same_one_touched_is_not(model: Path) -> None:
    add_recorded(model, read_state(model), MEASUREMENT)

    touched = msgspec.structs.replace(read_state(model), modified_ns=5)
    assert read_recorded(model, touched).measurements == (MEASUREMENT,)
    model.write_bytes(b"WEIGHTS")
    stale = read_recorded(model, read_state(model))
    assert stale.measurements == ()
    assert (
        stale.warning
        == "m-Q2_K.gguf.quality.json was measured on a different version of m-Q2_K.gguf "
        "and is ignored"
    )


def edited(**changes: Any) -> bytes:
    """A sidecar for the content `weights` whose measurement has other fields."""
    measurement = {**msgspec.to_builtins(MEASUREMENT), **changes}
    return json.dumps({"format": 1, "file": STATE, "measurements": [measurement]}).encode()


STATE = {"sha256": "c" * 64, "num_bytes": 7, "modified_ns": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"format": 2, "anything": []}',
        b'{"format": 1}',
        b'{"format": 1, "file": null, "measurements": []}',
        b" " * ((1 << 20) + 1),
        edited(num_windows=0),
        edited(num_windows=True),
        edited(num_windows=2.5),
        edited(surprise=1),
        edited(reference=None),
        edited(text={"name": "x", "sha256": "A" * 64}),
        edited(text={"name": "x", "sha256": "a" * 64 + "\n"}),
        edited(measured_on="yesterday"),
        edited(
            quality={"num_tokens": 510, "perplexity": {"value": float("nan"), "standard_error": 1}}
        ),
        edited(
            quality={
                **msgspec.to_builtins(QUALITY),
                "perplexity": {"value": -1.0, "standard_error": 1.0},
            }
        ),
        edited(
            quality={
                **msgspec.to_builtins(QUALITY),
                "perplexity": {"value": 1.0, "standard_error": "1"},
            }
        ),
    ],
)
def test_a_damaged_one_is_not_used_and_says_so(data: bytes, model: Path) -> None:
    sidecar_path(model).write_bytes(data)

    recorded = read_recorded(model, FileState("c" * 64, 7, 1))

    assert recorded.measurements == ()
    assert recorded.warning is not None
    assert recorded.warning.startswith(
        "m-Q2_K.gguf.quality.json is not a valid quality record and is ignored: "
    )


def test_the_undamaged_one_of_these_is_used(model: Path) -> None:
    sidecar_path(model).write_bytes(edited())

    assert read_recorded(model, FileState("c" * 64, 7, 1)).measurements == (MEASUREMENT,)
