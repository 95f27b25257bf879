"""Which token stands for what a vocabulary cannot write.

Knows no tokenizer and no text.
"""

from __future__ import annotations

import llama_cpp

# of files that do not say which one it is (llama-vocab.cpp, `llama_vocab::impl::load`)
_DEFAULTS = {
    llama_cpp.LLAMA_VOCAB_TYPE_SPM: 0,
    llama_cpp.LLAMA_VOCAB_TYPE_UGM: 2,
    llama_cpp.LLAMA_VOCAB_TYPE_WPM: 100,
    llama_cpp.LLAMA_VOCAB_TYPE_PLAMO2: 0,
}


def unknown_token(kind: int, said: str | None) -> int | None:
    """Of a vocabulary of llama.cpp's `kind`, where its file says `said`; None: there is
    none.
    """
    return _DEFAULTS.get(kind) if said is None else int(said)
