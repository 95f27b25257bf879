"""Which architectures have layers of their own that can draft for them.

Knows no memory and no model. Source: llama.cpp src/models (`graph_mtp`), those that were
tried.
"""

from __future__ import annotations

_WITH_HEADS = frozenset(("qwen35", "qwen35moe"))


def may_have_heads(architecture: str) -> bool:
    """Whether a model of it may have one layer that predicts a token more
    (`nextn_predict_layers`); `architecture` as in GGUF.
    """
    return architecture in _WITH_HEADS
