"""What takes long to load is told of, with the time that is left; what does not is not."""

from __future__ import annotations

import logging

import pytest

from appliance.llama.loading.progress import LoadProgress


def told(caplog: pytest.LogCaptureFixture, *reports: tuple[float, float]) -> list[str]:
    now_s = [0.0]
    progress = LoadProgress("loading a.gguf", clock=lambda: now_s[0])
    with caplog.at_level(logging.INFO):
        for now_s[0], share in reports:
            progress(share)
    return [record.getMessage() for record in caplog.records]


def test_every_two_seconds(caplog: pytest.LogCaptureFixture) -> None:
    reports = [(0.0, 0.0), (1.0, 0.1), (2.0, 0.2), (3.0, 0.3), (5.0, 0.5), (10.0, 1.0)]
    assert told(caplog, *reports) == [
        "loading a.gguf: 20 %, 8 s left",
        "loading a.gguf: 50 %, 5 s left",
    ]


def test_what_is_quick_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, (0.0, 0.0), (1.0, 0.6), (1.9, 1.0)) == []
