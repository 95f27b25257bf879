"""Drafts on models with a state: where llama.cpp keeps earlier ones, rejected tokens are
taken back, and answers are those without drafts; where it does not, nothing is drafted.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.protocol.kept_states import keeps_earlier_states
from appliance.store.gguf_header import read_header
from bench.memory_kinds import KINDS, TINY
from tests.conftest import Embedded
from tests.llama.reports import PROMPTS, report_of

NEAR_TIE = 2e-2  # between two tokens' logits: what rounding may turn
ROUNDING = 0.05  # between the same logits from steps of other shapes
KEEPING = ("delta-net", "convolution", "convolution-and-window")


@pytest.fixture(params=KEEPING)
def keeping(request: pytest.FixtureRequest, embedded: Embedded, tmp_path: Path) -> Path:
    """A model whose earlier states are kept."""
    return KINDS[request.param](embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_answers_are_those_without_drafts(keeping: Path, kv_type: str, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(PROMPTS))
    for way in ("greedy", "seeded"):
        report = report_of("drafted_equality", keeping, prompts, 64, kv_type, way)
        assert max(report["gaps"], default=0.0) < NEAR_TIE
        assert len(report["gaps"]) <= 1
        assert report["num_drafted"] > 400
        assert 100 < report["num_accepted"] < report["num_drafted"] - 100
        assert report["num_cells_left"] == 0


def test_so_they_are_beside_a_draft_model(embedded: Embedded, draft: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(PROMPTS))
    hybrid = KINDS["delta-net"](embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    report = report_of("drafted_equality", hybrid, prompts, 48, "q8_0", "greedy", draft)
    assert max(report["gaps"], default=0.0) < NEAR_TIE
    assert len(report["gaps"]) <= 1
    assert report["num_proposed"] > 200
    assert report["num_cells_left"] == 0


def test_what_was_taken_back_is_in_no_save(keeping: Path) -> None:
    for kv_type in ("f16", "q8_0"):
        report = report_of("rollback_saves", keeping, kv_type)
        assert report["states"] == 4
        assert max(report["gaps"]) < ROUNDING


def test_which_states_can_be_kept_is_known_before(embedded: Embedded, tmp_path: Path) -> None:
    for kind, write in KINDS.items():
        model = write(embedded.files["Q8_0"], tmp_path / f"{kind}.gguf", TINY)
        is_kept = report_of("rollback_saves", model, "f16")["states"] > 0
        assert keeps_earlier_states(read_header(model).architecture) == is_kept
        assert (kind in KEEPING) == is_kept
