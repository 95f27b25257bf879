"""Which architectures have states that llama.cpp can go back in, by tokens.

Knows no memory and no model. Source: llama.cpp src/llama-arch.cpp
(`llm_arch_supports_rs_rollback`), less those that were never tried and whose memory
nobody here can compute.
"""

from __future__ import annotations

_KEPT = frozenset(("lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe"))


def keeps_earlier_states(architecture: str) -> bool:
    """Whether llama.cpp can keep the states behind a sequence's last tokens, so that
    drafted ones can be taken back; `architecture` as in GGUF.
    """
    return architecture in _KEPT
