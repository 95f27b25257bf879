"""Why rows of a loaded model are not exact, in words for people.

Knows no kernel, no context and no request. Loads no llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

_BESIDE = "whose results depend on what is computed beside them"
_WORDS = {
    "MUL_MAT": "matrix products",
    "MUL_MAT_ID": "products of experts",
    "FLASH_ATTN_EXT": "attention",
}
# By ggml's names of operations. What can be kept exact is `is_by_row` in
# kernels/backend/tensors.h.
_STATES = {
    "RWKV_WKV6": "RWKV 6",
    "RWKV_WKV7": "RWKV 7",
    "GATED_LINEAR_ATTN": "gated linear attention",
    "CUMSUM": "a delta net that is computed in chunks",
    "SOLVE_TRI": "a delta net that is computed in chunks",
    "DSV4_HC_COMB": "DeepSeek 4's connections",
    "DSV4_HC_PRE": "DeepSeek 4's connections",
    "DSV4_HC_POST": "DeepSeek 4's connections",
}


def why_not_exact(
    operations: Sequence[str] | None, *, uses_gpu: bool, flash_attention: bool
) -> str:
    """Half a sentence, empty where they are. `operations` are ggml's names of what its own
    kernels computed in the model's warm-up whose rows may depend on each other; None where
    our kernels compute nothing.
    """
    if uses_gpu:
        return "a GPU computes a part of it"
    if operations is None:
        return f"llama.cpp's own kernels compute it, {_BESIDE}"
    if not flash_attention:
        return "without flash attention, what is summed up has the order in which cells lie"
    return _in_words(operations) if operations else ""


def _in_words(operations: Sequence[str]) -> str:
    states = _listed([_STATES[name] for name in operations if name in _STATES])
    if states:
        return f"its state ({states}) is computed by llama.cpp's own kernels and not kept exact"
    others = _listed([_WORDS.get(name, name.lower()) for name in operations])
    return f"llama.cpp's own kernels compute a part of it ({others}), {_BESIDE}"


def _listed(words: list[str]) -> str:
    return ", ".join(dict.fromkeys(words))
