"""Timing children: real ones on the embedded model, and scripted ones that die, hang,
or compute something else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.llama.checks.stopwatch import Stopwatch, TimedContext, TimedModel, Untimed, Workload
from tests.conftest import Embedded

CONTEXT = TimedContext(
    kv_type="f16", threads=2, batch_threads=2, flash_attention=False, ubatch_rows=64
)
WORK = Workload(depth=256, prompt_rows=64, num_steps=3, streams=4)
LIMIT_S = 120.0


@pytest.mark.parametrize(
    ("kv_type", "flash_attention"),
    [("f16", False), ("f16", True), ("q8_0", True), ("q8_0/q4_0", True)],
)
def test_a_real_round_behind_a_filled_and_an_empty_cache(
    embedded: Embedded, kv_type: str, flash_attention: bool
) -> None:
    model = TimedModel(str(embedded.files["Q8_0"]), use_extra_bufts=False, use_mmap=True)
    context = TimedContext(
        kv_type=kv_type, threads=2, batch_threads=2, flash_attention=flash_attention, ubatch_rows=64
    )
    with Stopwatch() as stopwatch:
        for depth in (256, 0):
            work = Workload(depth, prompt_rows=64, num_steps=3, streams=4)
            times = stopwatch.round(model, context, work, LIMIT_S)
            assert (len(times.alone_ms), len(times.together_ms)) == (3, 3)
            assert times.depth == depth
            assert min(times.prompt_ms, *times.alone_ms, *times.together_ms) > 0


def test_ways_to_compute_agree_with_the_first_one(embedded: Embedded) -> None:
    """Read instead of mapped, and with other attention, the text's probabilities stay
    within the bound.
    """
    path = str(embedded.files["Q4_K_M"])
    with Stopwatch() as stopwatch:
        for use_mmap in (True, False):
            for flash_attention in (False, True):
                context = TimedContext(
                    kv_type="f16",
                    threads=1,
                    batch_threads=2,
                    flash_attention=flash_attention,
                    ubatch_rows=64,
                )
                stopwatch.round(
                    TimedModel(path, use_extra_bufts=False, use_mmap=use_mmap),
                    context,
                    WORK,
                    LIMIT_S,
                )


def test_a_context_that_is_refused_leaves_the_child_alive(embedded: Embedded) -> None:
    model = TimedModel(str(embedded.files["Q8_0"]), use_extra_bufts=False, use_mmap=True)
    refused = TimedContext(
        kv_type="q8_0", threads=2, batch_threads=2, flash_attention=False, ubatch_rows=64
    )
    with Stopwatch() as stopwatch:
        with pytest.raises(Untimed, match="refused a context"):
            stopwatch.round(model, refused, WORK, LIMIT_S)
        stopwatch.round(model, CONTEXT, WORK, LIMIT_S)


def test_a_file_that_is_no_model_is_reported(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with (
        Stopwatch() as stopwatch,
        pytest.raises(Untimed, match=r"failed with status 1: llama\.cpp could not load"),
    ):
        stopwatch.round(TimedModel(str(tmp_path / "m.gguf"), False, True), CONTEXT, WORK, LIMIT_S)


# On extra buffer types it has a fault; it also writes which models were started.
SCRIPTED = """
import json, os, signal, sys
import numpy as np
model = json.loads(sys.argv[1])
with open(model["path"], "a") as log:
    print(json.dumps(model["use_extra_bufts"]), file=log)
for line in sys.stdin:
    ask = json.loads(line)
    has_fault = model["use_extra_bufts"] and ask["context"]["flash_attention"]
    if has_fault and "{fault}" == "dies":
        os.kill(os.getpid(), signal.SIGILL)
    if has_fault and "{fault}" == "hangs":
        signal.pause()
    if ask["log_probs_file"]:
        seed = 1 if has_fault and "{fault}" == "garbage" else 0
        logits = np.random.default_rng(seed).normal(size=(4, 32)) * 5
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.save(ask["log_probs_file"], log_probs.astype(np.float32))
    result = {{"depth": 0, "prompt_ms": 1.0, "alone_ms": [2.0], "together_ms": [3.0]}}
    print(json.dumps({{"type": "times", **result}}), flush=True)
"""


@pytest.mark.parametrize(
    ("fault", "limit_s", "reason"),
    [
        ("dies", LIMIT_S, "died of SIGILL"),
        ("hangs", 0.5, "took more than 0.5 s"),
        ("garbage", LIMIT_S, "its logits differ from the reference's"),
    ],
)
def test_what_dies_hangs_or_differs_is_reported_and_the_others_go_on(
    fault: str, limit_s: float, reason: str, tmp_path: Path
) -> None:
    log = tmp_path / "started"
    plain, repacked = (
        TimedModel(str(log), use_extra_bufts, True) for use_extra_bufts in (False, True)
    )
    faulty = TimedContext(
        kv_type="f16", threads=2, batch_threads=2, flash_attention=True, ubatch_rows=64
    )
    with Stopwatch([sys.executable, "-c", SCRIPTED.format(fault=fault)]) as stopwatch:
        assert stopwatch.round(plain, CONTEXT, WORK, LIMIT_S).alone_ms == [2.0]
        stopwatch.round(repacked, CONTEXT, WORK, LIMIT_S)
        with pytest.raises(Untimed, match=reason):
            stopwatch.round(repacked, faulty, WORK, limit_s)
        stopwatch.round(repacked, CONTEXT, WORK, LIMIT_S)
        stopwatch.round(plain, CONTEXT, WORK, LIMIT_S)
    times_started = {"dies": 2, "hangs": 2, "garbage": 1}[fault]
    assert log.read_text().split() == ["false", *["true"] * times_started]


def test_two_children_at_once_are_the_most(tmp_path: Path) -> None:
    models = [TimedModel(str(tmp_path / "started"), False, use_mmap) for use_mmap in (True, False)]
    third = TimedModel(str(tmp_path / "started"), True, True)
    with Stopwatch([sys.executable, "-c", SCRIPTED.format(fault="none")]) as stopwatch:
        for model in (*models, third, models[1], models[0]):
            stopwatch.round(model, CONTEXT, WORK, LIMIT_S)
    assert (tmp_path / "started").read_text().split() == ["false", "false", "true", "false"]
