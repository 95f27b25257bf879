"""Sampling parameters as a llama.cpp sampler chain, in llama.cpp's own order.

Knows no slots and no threads.

The chain's last link, the draw, is our own (`noise`): llama.cpp's takes the next number
of a stream, so that a token would depend on how many were drawn before it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.constraint import Constraint
from appliance.errors import BadRequest, ConstraintFailed, DecodeFailed
from appliance.llama.model import Model
from appliance.llama.sampling.logits import (
    MOST_FILTERED,
    Ids,
    Row,
    check_row,
    most_likely_token,
    most_likely_tokens,
)
from appliance.llama.sampling.noise import Noise
from appliance.llama.sampling.sampler_links import Links, active, repeats, seed_of
from appliance.protocol.sampling import SamplingParams

_MASKED = float("-inf")
_GREEDY_BELOW = 1e-6  # a temperature: dividing logits by less could overflow to infinities
_CHANGE_LOGITS = {"penalties", "dry"}  # where the others leave out tokens
# may leave out the most likely token, so they matter without any draw too
_DROP_BEST = {"typ_p", "xtc", "infill"}
_FEW = 64  # candidates: up to so many are compared sooner one by one than as arrays
_Entries = npt.NDArray[np.void]
# llama.h, llama_token_data
_ENTRY: np.dtype[np.void] = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class Candidates:
    """A `llama_token_data_array` that is filled anew for each token: samplers reorder,
    change and shorten it.
    """

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
        """A token of the distribution that a chain leaves, drawn
        as the answer's `index`-th.
        """
        llama_cpp.llama_sampler_apply(sampler, self._reference)
        entries = self._left()
        ids, logits = entries["id"], entries["logit"]
        if len(entries) <= _FEW:
            at = noise.winner(index, ids.tolist(), logits.tolist())
        else:
            at = int((noise.gumbels(index, ids) + logits).argmax())
        return int(ids[at])

    def _left(self) -> _Entries:
        """The candidates that are left,
        in the sampler's own memory if it put that in place.
        """
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
        self._data = ctypes.cast(
            ctypes.c_void_p(self._data_address), ctypes.POINTER(llama_cpp.llama_token_data)
        )


class SamplerChain:
    """One sequence's sampler; `close` frees it.

    Raises `BadRequest` on a `logit_bias` for an unknown token, and where `infill` is to
    keep to a form.
    """

    def __init__(
        self,
        model: Model,
        sampling: SamplingParams,
        prompt: Seq[int],
        max_tokens: int,
        *,
        constraint: Constraint | None = None,
    ) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        params.no_perf = True
        # Errors come before anything is allocated that they would leak.
        biases = _biases(model, sampling)
        is_greedy = sampling.temperature < _GREEDY_BELOW and "temperature" in sampling.samplers
        applied = _applied(sampling, is_greedy=is_greedy)
        if constraint is not None and "infill" in applied:
            raise BadRequest(
                "The sampler 'infill' may end an answer anywhere, so it cannot be combined with a "
                "grammar or another constraint on the answer. Leave 'infill' out.",
                param="samplers",
            )
        self.handle = llama_cpp.llama_sampler_chain_init(params)
        if biases:
            array = (llama_cpp.llama_logit_bias * len(biases))(*biases.items())
            self._add(llama_cpp.llama_sampler_init_logit_bias(model.num_vocab, len(biases), array))
        links = Links(model, sampling, prompt, max_tokens)
        for name in applied:
            self._add(*links.of(name))
        if is_greedy:
            self._add(llama_cpp.llama_sampler_init_greedy())
        elif sampling.mirostat:
            self._add(links.temperature(), links.mirostat())
        self._noise = None if is_greedy else Noise(seed_of(sampling))
        # its last link does; else the draw is ours
        self._selects = is_greedy or sampling.mirostat > 0
        self._num_best = _num_best(sampling, applied, is_greedy=is_greedy)
        self._num_chosen = 0
        # the tokens whose logits may be changed before the best are taken
        self._changed = set(biases)
        self._changes_chosen = "penalties" in applied
        if "penalties" in applied and repeats(sampling):
            self._changed.update(prompt[-sampling.repeat_last_n :])
        self._takes_most_likely = (
            self._num_best == 1
            and not self._changes_chosen
            and all(bias <= 0 for bias in biases.values())
        )
        self.num_top_logprobs = sampling.num_top_logprobs
        self._min_tokens = sampling.min_tokens
        self._end_tokens = np.fromiter(model.end_tokens, np.int32)
        self._constrained = None if constraint is None else ConstrainedRows(constraint)

    @property
    def is_random(self) -> bool:
        """Whether the seed matters."""
        return self._noise is not None

    @property
    def sees_all(self) -> bool:
        """Whether the chain has to be shown every token of the vocabulary, which takes
        several times as long.
        """
        return self._num_best == 0 or self._num_best + len(self._changed) > MOST_FILTERED

    def choose(self, row: Row, candidates: Candidates) -> int:
        """Chooses the answer's next token from a row of logits and accepts it.

        A chain that keeps only the best tokens is shown those that can be among them:
        as many as it keeps, one more for each whose logit it may lower, and those it
        may raise. Raises `DecodeFailed` where the row is no distribution. Calls for one
        chain must not overlap.
        """
        if self._constrained is None:
            token = self._chosen(self._going_on(row), candidates)
        else:
            token = self._chosen(self._going_on(self._constrained.allowed(row)), candidates)
            self._constrained.accept(token)
        self._num_chosen += 1
        return token

    def _going_on(self, row: Row) -> Row:
        """The row without the tokens that would end an answer which is too short;
        all of it where a complete form allows nothing else.
        """
        if self._num_chosen >= self._min_tokens:
            return row
        others = row.copy()
        others[self._end_tokens] = _MASKED
        return others if others.max() > _MASKED else row

    def _chosen(self, row: Row, candidates: Candidates) -> int:
        if self._takes_most_likely:
            token = most_likely_token(row)
            if token not in self._changed:  # others are only lowered
                return token
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

    def _add(self, *samplers: ctypes.c_void_p) -> None:
        for sampler in samplers:
            llama_cpp.llama_sampler_chain_add(self.handle, sampler)


class ConstrainedRows:
    """Rows in which what a constraint does not allow is masked; the row itself keeps
    what the model computed.
    """

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        # one for all: half a MiB of fresh pages cost more than filling it
        self._row = np.empty(0, np.float32)

    def allowed(self, row: Row) -> Row:
        """Valid until the next call."""
        check_row(row)
        if len(self._row) != len(row):
            self._row = np.empty_like(row)
        bits = np.unpackbits(
            np.frombuffer(self._constraint.mask(), np.uint8), count=len(row), bitorder="little"
        ).view(np.bool_)
        self._row.fill(_MASKED)
        np.copyto(self._row, row, where=bits)
        if self._row.max() == _MASKED:
            raise ConstraintFailed(
                "None of the model's tokens would keep the answer within its constraint."
            )
        return self._row

    def accept(self, token: int) -> None:
        self._constraint.accept(token)


def _applied(sampling: SamplingParams, *, is_greedy: bool) -> tuple[str, ...]:
    """The samplers of which links are made: mirostat takes the place of all filters,
    and greedy needs few.
    """
    names = active(sampling)
    if is_greedy and not _DROP_BEST.isdisjoint(names):
        return tuple(name for name in names if name != "temperature")
    if is_greedy or sampling.mirostat:
        return tuple(name for name in names if name in _CHANGE_LOGITS)
    return names


def _num_best(sampling: SamplingParams, applied: Seq[str], *, is_greedy: bool) -> int:
    """How many of the best tokens a chain looks at; 0 for all."""
    if "dry" in applied:  # it may lower any token of the context
        return 0
    if is_greedy and _DROP_BEST.isdisjoint(applied):
        return 1
    if "top_k" not in applied:
        return 0
    keep_order = {"penalties"} if sampling.dynatemp_range else {"penalties", "temperature"}
    return sampling.top_k if keep_order.issuperset(applied[: applied.index("top_k")]) else 0


def _biases(model: Model, sampling: SamplingParams) -> dict[int, float]:
    for token in sampling.logit_bias:
        if not 0 <= token < model.num_vocab:
            raise BadRequest(
                f"Token id {token} is not in the vocabulary of {model.num_vocab}.",
                param="logit_bias",
            )
    biases = dict(sampling.logit_bias)
    if sampling.ignore_eos:
        biases.update(dict.fromkeys(model.end_tokens, _MASKED))
    return biases
