"""Names of the catalog and of Ollama's library mean repositories."""

from __future__ import annotations

import re

import pytest

from appliance.store.known.hub_models import load_hub_models
from appliance.store.known.names import find_repository, near_names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("org/repo:Q4_K_M", "org/repo:Q4_K_M"),
        ("org/repo@v1.0:Q4_K_M", "org/repo@v1.0:Q4_K_M"),
        ("https://hf.co/org/repo", "org/repo"),
        ("qwen3-8b", "Qwen/Qwen3-8B-GGUF"),
        ("Qwen3-8B", "Qwen/Qwen3-8B-GGUF"),
        ("qwen3-8b:q6_k", "Qwen/Qwen3-8B-GGUF:Q6_K"),
        ("qwen3-8b:UD-Q4_K_XL", "Qwen/Qwen3-8B-GGUF:UD-Q4_K_XL"),
        ("llama3.2:1b", "bartowski/Llama-3.2-1B-Instruct-GGUF"),
        ("llama3.2:latest", "bartowski/Llama-3.2-3B-Instruct-GGUF"),
        ("llama3.2", "bartowski/Llama-3.2-3B-Instruct-GGUF"),
        ("llama3.2:1b-instruct-q8_0", "bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0"),
        ("ollama.com/library/qwen3:8b", "Qwen/Qwen3-8B-GGUF"),
        ("https://ollama.com/library/qwen3:8b-q4_K_M", "Qwen/Qwen3-8B-GGUF:Q4_K_M"),
        (
            "registry.ollama.ai/library/bge-m3",
            "ggml-org/bge-m3-Q8_0-GGUF@9eba04c5d75ba5a1595e45de734d36bef4e5cb98",
        ),
        ("qwen3:7b", None),
        ("ollama.com/library/absent", None),
        ("qwen3-8b.gguf", None),
        ("", None),
    ],
)
def test_a_name_means_a_repository(name: str, meant: str | None) -> None:
    found = find_repository(name)
    assert (None if found is None else str(found)) == meant


def test_a_name_means_the_commit_that_its_entry_was_looked_up_at() -> None:
    [entry] = [model for model in load_hub_models() if model.name == "qwen3-4b"]
    assert re.fullmatch("[0-9a-f]{40}", entry.revision)
    for name in ("qwen3-4b", "qwen3-4b:Q4_K_M", "qwen3:4b-instruct"):
        assert find_repository(name) is not None
        assert find_repository(name).revision == entry.revision  # type: ignore[union-attr]
    assert find_repository("qwen3-8b").revision is None  # type: ignore[union-attr]


def test_misspelt_names_have_near_ones() -> None:
    assert near_names("qwen3-8")[0] == "qwen3-8b"
    assert near_names("ollama.com/library/llama3.2:1")[0] == "llama3.2:1b"
    assert near_names("zzz") == []
