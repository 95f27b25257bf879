"""The engine's `Encoder` on llama.cpp: a context that pools each input into one vector.

Knows no requests and no text.

An encoder such as BERT has no cache at all; a decoder that was trained to embed has
one, which is emptied after each step. Either way an input has to be in one step as a
whole: what is pooled is pooled within one.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import llama_cpp
import numpy as np

from appliance.engine.embedding import InputFrame, Scoring, Vectors
from appliance.errors import DecodeFailed, LoadFailed
from appliance.llama import library
from appliance.llama.model import Model

MAX_INPUTS = 64  # of a step; more would save nothing, for it is full of rows by then
_RANK_BY_SOFTMAX = ("qwen3", "qwen3vl")  # build_pooling in llama-graph.cpp
_POOLING_NAMES = {
    llama_cpp.LLAMA_POOLING_TYPE_MEAN: "mean",
    llama_cpp.LLAMA_POOLING_TYPE_CLS: "cls",
    llama_cpp.LLAMA_POOLING_TYPE_LAST: "last",
    llama_cpp.LLAMA_POOLING_TYPE_RANK: "rank",
}


@dataclass(frozen=True)
class EmbeddingConfig:
    """The sizes of an embedding model's context."""

    max_rows: int  # tokens of one step, so of the longest input
    threads: int
    flash_attention: bool = True
    offload_ops: bool = False  # as in `ContextConfig`


class EmbeddingContext:
    """Implements `appliance.engine.embedding.Encoder`.

    Raises `LoadFailed` if llama.cpp refuses the model.
    """

    max_inputs = MAX_INPUTS

    def __init__(self, model: Model, config: EmbeddingConfig) -> None:
        self._model = model  # llama.cpp does not keep it alive
        self.max_rows = config.max_rows
        library.take_errors()
        handle = llama_cpp.llama_init_from_model(model.handle, _params(model, config))
        if not handle:
            raise LoadFailed(
                f"llama.cpp refused a context for embeddings of {config.max_rows} tokens: "
                f"{library.take_errors() or 'no reason given'}."
            )
        self.handle = handle
        self._memory = llama_cpp.llama_get_memory(handle)
        self._batch = llama_cpp.llama_batch_init(config.max_rows, 0, 1)
        pooling = _POOLING_NAMES.get(llama_cpp.llama_pooling_type(handle))
        if pooling is None:
            raise LoadFailed(
                "llama.cpp pools this model's embeddings in a way that is not supported here."
            )
        self.pooling = pooling
        self.scoring = _scoring(model) if pooling == "rank" else Scoring.NONE
        # A classifier's first output is its score.
        ranks = self.scoring is not Scoring.NONE
        self.num_values: int = 1 if ranks else llama_cpp.llama_model_n_embd_out(model.handle)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self.handle)

    def encode(self, inputs: Seq[Seq[int]]) -> Vectors:
        assert 0 < len(inputs) <= self.max_inputs
        self._fill(inputs)
        library.take_errors()
        status = llama_cpp.llama_decode(self.handle, self._batch)
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        if status != 0:
            raise DecodeFailed(f"llama_decode returned {status} ({library.take_errors()}).")
        return np.stack([self._vector(sequence_id) for sequence_id in range(len(inputs))])

    def warm_up(self) -> None:
        """Computes one row, so that a CPU path
        that dies does so before the first request.

        Raises `DecodeFailed`.
        """
        if not np.isfinite(self.encode([[self._model.bos or 0]])).all():
            raise DecodeFailed("The first embedding is not finite.")

    def _fill(self, inputs: Seq[Seq[int]]) -> None:
        batch, at = self._batch, 0
        tokens, positions, logits, counts, ids = (
            batch.token,
            batch.pos,
            batch.logits,
            batch.n_seq_id,
            batch.seq_id,
        )
        for sequence_id, input_tokens in enumerate(inputs):
            for position, token in enumerate(input_tokens):
                assert at < self.max_rows, (
                    "an encoder aborts the process on a step of too many rows"
                )
                tokens[at], positions[at], logits[at] = token, position, True
                counts[at], ids[at][0] = 1, sequence_id
                at += 1
        batch.n_tokens = at

    def _vector(self, sequence_id: int) -> Vectors:
        values = llama_cpp.llama_get_embeddings_seq(self.handle, sequence_id)
        assert values, "a context that does not pool"
        # a copy: the next step overwrites
        return np.ctypeslib.as_array(values, (self.num_values,)).astype(np.float32)


def _scoring(model: Model) -> Scoring:
    """llama.cpp's graphs of these families end in a softmax over two tokens, yes and no.

    Raises `LoadFailed` where there is only one output: its softmax is always 1.
    """
    if model.metadata("general.architecture") not in _RANK_BY_SOFTMAX:
        return Scoring.LOGIT
    if llama_cpp.llama_model_n_cls_out(model.handle) < 2:
        raise LoadFailed(
            "This reranker has one output where llama.cpp needs two (yes and no): every document "
            "would have the same score. Use a file with classifier.output_labels, or convert the "
            "original checkpoint."
        )
    return Scoring.PROBABILITY


def input_frame(model: Model) -> InputFrame:
    """What llama.cpp itself puts around a text, and what belongs between two.

    A pair is what Hugging Face makes of two texts: `[CLS] a [SEP] b [SEP]`, or `<s> a
    </s></s> b </s>` where the vocabulary wants an end behind the first one and a
    separator before the second one.
    """
    around = model.tokens_around()
    front = around[:1] if around[:1] == (model.bos,) and model.adds_bos else ()
    back = around[len(front) :]
    separator = () if model.separator is None else (model.separator,)
    between = back + separator if model.adds_end_and_separator else back or separator
    return InputFrame(front, between, back)


def _params(model: Model, config: EmbeddingConfig) -> llama_cpp.llama_context_params:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = config.max_rows
    # Every row counts as an output, and the graph is planned for as many: fewer would
    # abort.
    params.n_outputs_max = config.max_rows
    params.n_seq_max = MAX_INPUTS
    params.kv_unified = True
    params.embeddings = True
    if not model.has_pooling:
        params.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
    params.n_threads = params.n_threads_batch = config.threads
    on, off = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.flash_attn_type = on if config.flash_attention else off
    params.offload_kqv = params.op_offload = config.offload_ops
    params.no_perf = True
    return params
