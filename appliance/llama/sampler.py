"""Sampling parameters as a llama.cpp sampler chain, in llama.cpp's own order. Knows no slots and no logits."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Sequence as Seq

import llama_cpp

from appliance.engine.sequence import SamplingParams
from appliance.errors import BadRequest
from appliance.llama.model import Model

_MASKED = float("-inf")
_RANDOM_SEED = 0xFFFFFFFF  # llama.h, LLAMA_DEFAULT_SEED: would draw a fresh seed


class SamplerChain:
    """One sequence's sampler; `close` frees it. Raises `BadRequest` on a `logit_bias` for an unknown token."""

    def __init__(self, model: Model, sampling: SamplingParams, prompt: Seq[int], max_tokens: int) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        params.no_perf = True
        biases = _biases(model, sampling)  # before anything is allocated that an error would leak
        self.handle = llama_cpp.llama_sampler_chain_init(params)
        if biases:
            array = (llama_cpp.llama_logit_bias * len(biases))(*biases.items())
            self._add(llama_cpp.llama_sampler_init_logit_bias(model.num_vocab, len(biases), array))
        self._add_penalties(model.num_vocab, sampling, prompt, max_tokens)
        if sampling.temperature <= 0:
            self._add(llama_cpp.llama_sampler_init_greedy())
        else:
            self._add_random(sampling)

    def sample(self, context: ctypes.c_void_p, row: int) -> int:
        """Draws a token from the logits of a batch row and accepts it."""
        token: int = llama_cpp.llama_sampler_sample(self.handle, context, row)
        return token

    def close(self) -> None:
        llama_cpp.llama_sampler_free(self.handle)

    def _add(self, sampler: ctypes.c_void_p) -> None:
        llama_cpp.llama_sampler_chain_add(self.handle, sampler)

    def _add_penalties(self, num_vocab: int, sampling: SamplingParams, prompt: Seq[int], max_tokens: int) -> None:
        if sampling.repeat_penalty != 1.0 and sampling.repeat_last_n > 0:
            last_n = min(sampling.repeat_last_n, max_tokens)
            repeat = llama_cpp.llama_sampler_init_penalties(num_vocab, last_n, sampling.repeat_penalty, 0.0, 0.0)
            for token in prompt[-last_n:]:
                llama_cpp.llama_sampler_accept(repeat, token)
            self._add(repeat)
        if sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0:
            # A penalty of its own, because these two look at the whole answer and not at the prompt.
            self._add(
                llama_cpp.llama_sampler_init_penalties(
                    num_vocab, max_tokens, 1.0, sampling.frequency_penalty, sampling.presence_penalty
                )
            )

    def _add_random(self, sampling: SamplingParams) -> None:
        if sampling.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0.0:
            self._add(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(sampling.temperature))
        self._add(llama_cpp.llama_sampler_init_dist(_seed(sampling.seed)))


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(_RANDOM_SEED)
    return seed % _RANDOM_SEED


def _biases(model: Model, sampling: SamplingParams) -> dict[int, float]:
    for token in sampling.logit_bias:
        if not 0 <= token < model.num_vocab:
            raise BadRequest(f"Token id {token} is not in the vocabulary of {model.num_vocab}.", param="logit_bias")
    biases = dict(sampling.logit_bias)
    if sampling.ignore_eos:
        biases.update(dict.fromkeys(model.end_tokens, _MASKED))
    return biases
