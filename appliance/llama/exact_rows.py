"""Why rows of a loaded model are not exact, in words for people.

Knows the kernels that computed its warm-up, and the context's settings. Knows no request.
"""

from __future__ import annotations

from appliance.llama.context import ContextConfig
from appliance.llama.kernels.loading import foreign_count, foreign_operations

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


def why_not_exact(config: ContextConfig, num_foreign: int | None) -> str:
    """Half a sentence, empty where they are: after a model's first decodes, before which
    the count of foreign operations was `num_foreign`.
    """
    if config.offload_ops:  # that is, where a GPU computes
        return "a GPU computes a part of it"
    if num_foreign is None:
        return f"llama.cpp's own kernels compute it, {_BESIDE}"
    if not config.sizes.flash_attention:
        return "without flash attention, what is summed up has the order in which cells lie"
    if foreign_count() == num_foreign:
        return ""
    return in_words(foreign_operations())


def in_words(operations: tuple[str, ...]) -> str:
    """Of ggml's names of what its own kernels have computed in this process."""
    states = _listed([_STATES[name] for name in operations if name in _STATES])
    if states:
        return f"its state ({states}) is computed by llama.cpp's own kernels and not kept exact"
    others = _listed([_WORDS.get(name, name.lower()) for name in operations])
    return f"llama.cpp's own kernels compute a part of it ({others or 'it is not known which'}), {_BESIDE}"


def _listed(words: list[str]) -> str:
    return ", ".join(dict.fromkeys(words))
