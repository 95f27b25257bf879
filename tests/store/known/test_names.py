"""Names of the catalog and of Ollama's library mean repositories."""

from __future__ import annotations

import pytest

from appliance.store.known.names import find_repository, near_names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("org/repo:Q4_K_M", "org/repo:Q4_K_M"),
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
        ("registry.ollama.ai/library/bge-m3", "ggml-org/bge-m3-Q8_0-GGUF"),
        ("qwen3:7b", None),
        ("ollama.com/library/absent", None),
        ("qwen3-8b.gguf", None),
        ("", None),
    ],
)
def test_a_name_means_a_repository(name: str, meant: str | None) -> None:
    found = find_repository(name)
    assert (None if found is None else str(found)) == meant


def test_misspelt_names_have_near_ones() -> None:
    assert near_names("qwen3-8")[0] == "qwen3-8b"
    assert near_names("ollama.com/library/llama3.2:1")[0] == "llama3.2:1b"
    assert near_names("zzz") == []
