"""A `llama_context` that turns texts into vectors: no sampling, nothing kept between calls. Knows no requests."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.errors import DecodeFailed, LoadFailed
from appliance.llama import library
from appliance.llama.model import Model

Vector = npt.NDArray[np.float32]
_POOLINGS = {
    llama_cpp.LLAMA_POOLING_TYPE_MEAN: "mean",
    llama_cpp.LLAMA_POOLING_TYPE_CLS: "cls",
    llama_cpp.LLAMA_POOLING_TYPE_LAST: "last",
}


class Encoder:
    """Up to `max_rows` tokens of up to `max_texts` texts in one computation.

    A model whose tokens see those behind them needs a whole text in one computation, so no text is longer than that.
    Raises `LoadFailed` if llama.cpp refuses, or the model pools in no way that gives one vector.
    """

    def __init__(self, model: Model, *, max_rows: int, max_texts: int, threads: int) -> None:
        self._model = model  # llama.cpp does not keep it alive
        library.take_errors()
        handle = llama_cpp.llama_init_from_model(model.handle, _params(max_rows, max_texts, threads))
        if not handle:
            raise LoadFailed(f"llama.cpp refused the context: {library.take_errors() or 'no reason given'}.")
        self._handle = handle
        pooling = llama_cpp.llama_pooling_type(handle)
        if pooling not in _POOLINGS:
            raise LoadFailed(f"This model's pooling type is {pooling}; mean, cls and last are supported.")
        self.pooling = _POOLINGS[pooling]
        self.size: int = llama_cpp.llama_model_n_embd(model.handle)
        self.max_rows = max_rows
        self.max_texts = max_texts
        self._memory = llama_cpp.llama_get_memory(handle)
        self._batch = llama_cpp.llama_batch_init(max_rows, 0, 1)
        for at in range(max_rows):
            self._batch.n_seq_id[at] = 1

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._handle)

    def encode(self, texts: Seq[Seq[int]]) -> list[Vector]:
        """One vector of length 1, float32 [size], for each text's token ids. Raises `DecodeFailed`."""
        assert 0 < len(texts) <= self.max_texts
        assert all(texts)
        self._fill(texts)
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        library.take_errors()
        status = llama_cpp.llama_decode(self._handle, self._batch)
        if status != 0:
            raise DecodeFailed(f"llama_decode returned {status} ({library.take_errors() or 'no reason given'}).")
        llama_cpp.llama_synchronize(self._handle)
        return [self._vector(number) for number in range(len(texts))]

    def _fill(self, texts: Seq[Seq[int]]) -> None:
        batch = self._batch
        at = 0
        for number, tokens in enumerate(texts):
            for position, token in enumerate(tokens):
                batch.token[at], batch.pos[at], batch.logits[at] = token, position, True
                batch.seq_id[at][0] = number
                at += 1
        assert at <= self.max_rows
        batch.n_tokens = at

    def _vector(self, number: int) -> Vector:
        pointer = llama_cpp.llama_get_embeddings_seq(self._handle, number)
        if not pointer:
            raise DecodeFailed("llama.cpp has no vector for a text.")
        vector = np.ctypeslib.as_array(pointer, (self.size,)).astype(np.float32)
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not np.isfinite(length) or length == 0.0:
            raise DecodeFailed("The model gave a vector of no numbers.")
        return (vector / length).astype(np.float32)


def _params(max_rows: int, max_texts: int, threads: int) -> llama_cpp.llama_context_params:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max_rows
    params.n_seq_max = max_texts
    params.n_threads = params.n_threads_batch = threads
    params.embeddings = True
    params.kv_unified = True
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED  # else all scores of a text are there at once
    return params
