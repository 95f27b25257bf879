"""Sampling parameters as a llama.cpp sampler chain, in llama.cpp's own order. Knows no slots and no threads.

The chain's last link, the draw, is our own (`noise`): llama.cpp's takes the next number of a stream, so that a token
would depend on how many were drawn before it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.constraint import Constraint
from appliance.engine.sequence import SamplingParams
from appliance.errors import BadRequest, ConstraintFailed, DecodeFailed
from appliance.llama.logits import MOST_FILTERED, Ids, Row, check_row, most_likely_token, most_likely_tokens
from appliance.llama.model import Model
from appliance.llama.noise import Noise

_MASKED = float("-inf")
_GREEDY_BELOW = 1e-6  # a temperature: dividing logits by less could overflow to infinities
_MIROSTAT_TOKENS = 100  # from which version 1 estimates how fast chances fall; llama.cpp's number
_NO_CHANCE = 1e-30  # of the most likely token's
_MASK32 = 2**32 - 1
_FEW = 64  # candidates: up to so many are compared sooner one by one than as arrays
_Entries = npt.NDArray[np.void]
_ENTRY: np.dtype[np.void] = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # llama.h, llama_token_data


class Candidates:
    """A `llama_token_data_array` that is filled anew for each token: samplers reorder, change and shorten it."""

    def __init__(self) -> None:
        self._array = llama_cpp.llama_token_data_array()
        self._reference = ctypes.byref(self._array)
        self._every_id = np.arange(0, dtype=np.int32)
        self._reserve(256)

    def fill_with_all(self, row: Row) -> None:
        """With the whole row."""
        if len(self._every_id) != len(row):
            self._every_id = np.arange(len(row), dtype=np.int32)
        self._fill(self._every_id, row)

    def fill(self, row: Row, ids: Ids) -> None:
        """With the row's tokens `ids`, of which there must be one."""
        self._fill(ids, row[ids])

    def _fill(self, ids: Ids, logits: Row) -> None:
        size = len(ids)
        if size > len(self._entries):
            self._reserve(size)
        self._ids[:size] = ids
        self._logits[:size] = logits
        array = self._array
        array.data = self._data  # a sampler may have put its own in place
        array.size = size
        array.selected = -1
        array.sorted = False

    def best(self, sampler: ctypes.c_void_p) -> int:
        """The token that a chain with greedy sampling at its end chooses."""
        llama_cpp.llama_sampler_apply(sampler, self._reference)
        chosen: int = self._array.selected
        if not 0 <= chosen < self._array.size:
            raise DecodeFailed("Sampling chose no token.")
        token: int = self._array.data[chosen].id
        return token

    def draw(self, sampler: ctypes.c_void_p, noise: Noise, index: int) -> int:
        """A token of the distribution that a chain leaves, drawn as the answer's `index`-th."""
        llama_cpp.llama_sampler_apply(sampler, self._reference)
        entries = self._left()
        ids, logits = entries["id"], entries["logit"]
        if len(entries) <= _FEW:
            at = noise.winner(index, ids.tolist(), logits.tolist())
        else:
            at = int((noise.gumbels(index, ids) + logits).argmax())
        return int(ids[at])

    def _left(self) -> _Entries:
        """The candidates that are left, in the sampler's own memory if it put that in place."""
        size: int = self._array.size
        if size == 0:
            raise DecodeFailed("Sampling left no token to choose from.")
        address = ctypes.cast(self._array.data, ctypes.c_void_p).value
        if address == self._data_address:
            return self._entries[:size]
        assert address is not None
        memory = memoryview((ctypes.c_char * (size * _ENTRY.itemsize)).from_address(address))
        entries: _Entries = np.frombuffer(memory.cast("B"), _ENTRY)
        return entries

    def _reserve(self, size: int) -> None:
        self._entries = np.zeros(size, _ENTRY)
        self._ids, self._logits = self._entries["id"], self._entries["logit"]
        self._data_address = self._entries.ctypes.data
        self._data = ctypes.cast(ctypes.c_void_p(self._data_address), ctypes.POINTER(llama_cpp.llama_token_data))


class SamplerChain:
    """One sequence's sampler; `close` frees it. Raises `BadRequest` on a `logit_bias` for an unknown token."""

    def __init__(
        self,
        model: Model,
        sampling: SamplingParams,
        prompt: Seq[int],
        max_tokens: int,
        constraint: Constraint | None = None,
    ) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        params.no_perf = True
        biases = _biases(model, sampling)  # before anything is allocated that an error would leak
        self.handle = llama_cpp.llama_sampler_chain_init(params)
        if biases:
            array = (llama_cpp.llama_logit_bias * len(biases))(*biases.items())
            self._add(llama_cpp.llama_sampler_init_logit_bias(model.num_vocab, len(biases), array))
        self._add_penalties(model.num_vocab, sampling, prompt, max_tokens)
        self._add_dry(model, sampling, prompt, max_tokens)
        is_greedy = sampling.temperature < _GREEDY_BELOW
        self._noise = None if is_greedy else Noise(_seed(sampling))
        self._selects = is_greedy or sampling.mirostat > 0  # its last link does; else the draw is ours
        self._num_best = _num_best(sampling, is_greedy=is_greedy)
        if is_greedy:
            if _drops_best(sampling):
                self._add_filters(sampling)
            self._add(llama_cpp.llama_sampler_init_greedy())
        elif sampling.mirostat:
            self._add_temperature(sampling)
            self._add_mirostat(model.num_vocab, sampling)
        else:
            self._add_filters(sampling)
            self._add_temperature(sampling)
        self._num_chosen = 0
        self._changed = set(biases)  # the tokens whose logits may be changed before the best are taken
        self._changes_chosen = sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0
        if sampling.repeat_penalty != 1.0 and sampling.repeat_last_n > 0:
            self._changes_chosen = True
            self._changed.update(prompt[-sampling.repeat_last_n :])
        self.num_top_logprobs = sampling.num_top_logprobs
        self._bound = None if constraint is None else Bound(constraint)

    @property
    def is_random(self) -> bool:
        """Whether the seed matters."""
        return self._noise is not None

    @property
    def sees_all(self) -> bool:
        """Whether the chain has to be shown every token of the vocabulary, which takes several times as long."""
        return self._num_best == 0 or self._num_best + len(self._changed) > MOST_FILTERED

    def choose(self, row: Row, candidates: Candidates) -> int:
        """Chooses the answer's next token from a row of logits and accepts it.

        A chain that keeps only the best tokens is shown those that can be among them: as many as it keeps, one more for
        each whose logit it may lower, and those it may raise. Raises `DecodeFailed` where the row is no distribution.
        Calls for one chain must not overlap.
        """
        if self._bound is None:
            token = self._chosen(row, candidates)
        else:
            token = self._chosen(self._bound.allowed(row), candidates)
            self._bound.accept(token)
        self._num_chosen += 1
        return token

    def _chosen(self, row: Row, candidates: Candidates) -> int:
        if self._num_best == 1 and not self._changed and not self._changes_chosen:
            return most_likely_token(row)
        if self.sees_all:
            check_row(row)
            candidates.fill_with_all(row)
        else:
            candidates.fill(row, self._contenders(row))
        if self._selects:
            token = candidates.best(self.handle)
        else:
            assert self._noise is not None
            token = candidates.draw(self.handle, self._noise, self._num_chosen)
        llama_cpp.llama_sampler_accept(self.handle, token)
        if self._changes_chosen:
            self._changed.add(token)
        return token

    def _contenders(self, row: Row) -> Ids:
        best = most_likely_tokens(row, self._num_best + len(self._changed))
        if not self._changed:
            return best
        return np.union1d(best, np.fromiter(self._changed, np.int32, len(self._changed)))

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

    def _add_dry(self, model: Model, sampling: SamplingParams, prompt: Seq[int], max_tokens: int) -> None:
        """ "Don't repeat yourself": against tokens that would go on with what was there before."""
        last_n = max_tokens if sampling.dry_penalty_last_n < 0 else min(sampling.dry_penalty_last_n, max_tokens)
        if sampling.dry_multiplier == 0.0 or last_n == 0:
            return
        dry = model.dry_sampler(
            sampling.dry_multiplier,
            sampling.dry_base,
            sampling.dry_allowed_length,
            last_n,
            sampling.dry_sequence_breakers,
        )
        for token in prompt[-last_n:]:
            llama_cpp.llama_sampler_accept(dry, token)
        self._add(dry)

    def _add_mirostat(self, num_vocab: int, sampling: SamplingParams) -> None:
        """It draws by itself, in the order of the answer's tokens: so what it chooses follows from the seed too."""
        seed, tau, eta = _seed(sampling) & _MASK32, sampling.mirostat_tau, sampling.mirostat_eta
        if sampling.mirostat == 1:
            self._add(llama_cpp.llama_sampler_init_mirostat(num_vocab, seed, tau, eta, _MIROSTAT_TOKENS))
        else:
            self._add(llama_cpp.llama_sampler_init_mirostat_v2(seed, tau, eta))

    def _add_temperature(self, sampling: SamplingParams) -> None:
        self._add(
            llama_cpp.llama_sampler_init_temp_ext(
                sampling.temperature, sampling.dynatemp_range, sampling.dynatemp_exponent
            )
        )

    def _add_filters(self, sampling: SamplingParams) -> None:
        """In llama.cpp's order."""
        if sampling.top_n_sigma > 0.0:
            self._add(llama_cpp.llama_sampler_init_top_n_sigma(sampling.top_n_sigma))
        if sampling.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.typical_p < 1.0:
            # Its sum over p log p is no number where a masked token's p is 0.
            self._add(llama_cpp.llama_sampler_init_min_p(_NO_CHANCE, 1))
            self._add(llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1))
        if sampling.top_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0.0:
            self._add(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        if sampling.xtc_probability > 0.0:
            seed = _seed(sampling) & _MASK32
            self._add(llama_cpp.llama_sampler_init_xtc(sampling.xtc_probability, sampling.xtc_threshold, 1, seed))


class Bound:
    """Rows in which what a constraint does not allow is masked; the row itself keeps what the model computed."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self._row = np.empty(0, np.float32)  # one for all: half a MiB of fresh pages cost more than filling it

    def allowed(self, row: Row) -> Row:
        """Valid until the next call."""
        check_row(row)
        if len(self._row) != len(row):
            self._row = np.empty_like(row)
        bits = np.unpackbits(np.frombuffer(self._constraint.mask(), np.uint8), count=len(row), bitorder="little").view(
            np.bool_
        )
        self._row.fill(_MASKED)
        np.copyto(self._row, row, where=bits)
        if self._row.max() == _MASKED:
            raise ConstraintFailed("The model has no token that would keep its answer in the form that was asked for.")
        return self._row

    def accept(self, token: int) -> None:
        self._constraint.accept(token)


def _seed(sampling: SamplingParams) -> int:
    assert sampling.seed is not None, "the engine sets one for every request"
    return sampling.seed


def _drops_best(sampling: SamplingParams) -> bool:
    """Whether a filter may drop the most likely token, so that it matters without any draw too."""
    return sampling.typical_p < 1.0 or sampling.xtc_probability > 0.0


def _num_best(sampling: SamplingParams, *, is_greedy: bool) -> int:
    """How many of the best tokens a chain looks at; 0 for all."""
    if sampling.dry_multiplier != 0.0:  # it may lower any token of the context
        return 0
    if is_greedy:
        return sampling.top_k if _drops_best(sampling) else 1
    return 0 if sampling.mirostat or sampling.top_n_sigma > 0.0 else sampling.top_k


def _biases(model: Model, sampling: SamplingParams) -> dict[int, float]:
    for token in sampling.logit_bias:
        if not 0 <= token < model.num_vocab:
            raise BadRequest(f"Token id {token} is not in the vocabulary of {model.num_vocab}.", param="logit_bias")
    biases = dict(sampling.logit_bias)
    if sampling.ignore_eos:
        biases.update(dict.fromkeys(model.end_tokens, _MASKED))
    return biases
