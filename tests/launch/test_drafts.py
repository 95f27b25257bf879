"""Which model drafts, as the settings want it, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.fit.plan.planner import DraftPlan
from appliance.launch.drafts import choose_file, draft_spec, in_words, is_required
from appliance.launch.files import find_source
from appliance.settings import ModelSettings
from appliance.store.gguf_header import read_header
from appliance.store.synthetic import RandomShape, write_random_model
from tests.launch.specs import spec_of


def wanted(tmp_path: Path, draft: str, model: str = "novels-6m") -> str | None:
    target = spec_of(tmp_path, model, draft=draft)
    found = draft_spec(target, find_source(target))
    return None if found is None else found.argument


def test_a_draft_is_what_was_named_or_what_the_catalog_knows(tmp_path: Path) -> None:
    assert wanted(tmp_path, "off") is None
    assert wanted(tmp_path, "auto") == "novels-draft"
    assert wanted(tmp_path, "auto", "Qwen/Qwen3-8B-GGUF:Q4_K_M") == "Qwen/Qwen3-0.6B-GGUF:Q8_0"
    assert wanted(tmp_path, "auto", "org/anything") is None
    assert wanted(tmp_path, "small.gguf") == "small.gguf"
    assert [is_required(ModelSettings(draft=draft)) for draft in ("off", "AUTO", "small.gguf")] == [
        False,
        False,
        True,
    ]


def test_the_largest_file_that_is_small_beside_the_target_drafts(tmp_path: Path) -> None:
    write_random_model(
        tmp_path / "any.gguf",
        RandomShape(num_layers=1, embd=64, ff=64, heads=2, kv_heads=1, vocab=300, ctx=64),
        "Q8_0",
    )
    header = read_header(tmp_path / "any.gguf")
    sizes = (10, 19, 21, 80)
    drafts = [replace(header, num_file_bytes=size) for size in sizes]
    targets = [replace(header, num_file_bytes=size) for size in (40, 100)]
    assert choose_file(drafts, targets).num_file_bytes == 19
    assert choose_file(drafts[2:], targets).num_file_bytes == 21


def test_a_draft_without_room_is_told(tmp_path: Path) -> None:
    plan = DraftPlan(
        path=tmp_path / "small.gguf",
        quantization="Q8_0",
        window=512,
        max_rows=256,
        missing_bytes=3 << 20,
    )
    assert in_words(plan) == "small.gguf does not draft: it would need 3.0 MiB more memory."
