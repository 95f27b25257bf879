"""Which smaller model the catalog knows for --draft auto."""

from __future__ import annotations

import pytest

from appliance.store.catalog import load_catalog
from appliance.store.hub_id import parse_hub_id


@pytest.mark.parametrize(
    ("name", "draft"),
    [
        ("novels-6m", "novels-draft"),
        ("novels-draft", None),
        ("Qwen/Qwen3-8B-GGUF", "Qwen/Qwen3-0.6B-GGUF:Q8_0"),
        ("someone/Qwen3-4B.Q4_K_M", "Qwen/Qwen3-0.6B-GGUF:Q8_0"),
        ("Qwen/Qwen3-0.6B", None),
        ("Qwen/Qwen2.5-7B-Instruct-GGUF", "Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:Q8_0"),
        ("Qwen/Qwen2.5-7B", None),
        ("unsloth/Llama-3.1-8B-Instruct-GGUF", "bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0"),
        ("google/gemma-3-4b-it", "ggml-org/gemma-3-270m-it-GGUF:Q8_0"),
        ("mistralai/Mistral-7B-Instruct-v0.3", None),
    ],
)
def test_siblings_are_found_by_the_name_of_the_model(name: str, draft: str | None) -> None:
    assert load_catalog().draft_of(name) == draft
    assert draft is None or ":" not in draft or parse_hub_id(draft) is not None
