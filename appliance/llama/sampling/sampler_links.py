"""The links of a request's llama.cpp sampler chain:
which are on, their order, how each is made.

Draws nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import llama_cpp

from appliance.llama.model import Model
from appliance.protocol.sampling import SamplingParams

_MASK32 = 2**32 - 1
_MIROSTAT_TOKENS = 100  # from which version 1 estimates how fast chances fall; llama.cpp's number
_NO_CHANCE = 1e-30  # of the most likely token's

_IS_ON: Mapping[str, Callable[[SamplingParams], bool]] = {
    "penalties": lambda sampling: repeats(sampling) or _counts(sampling),
    "dry": lambda sampling: sampling.dry_multiplier != 0.0 and sampling.dry_penalty_last_n != 0,
    "top_n_sigma": lambda sampling: sampling.top_n_sigma > 0.0,
    "top_k": lambda sampling: sampling.top_k > 0,
    "typ_p": lambda sampling: sampling.typical_p < 1.0,
    "top_p": lambda sampling: sampling.top_p < 1.0,
    "min_p": lambda sampling: sampling.min_p > 0.0,
    "xtc": lambda sampling: sampling.xtc_probability > 0.0,
    "temperature": lambda _: True,
    "infill": lambda _: True,
}


def active(sampling: SamplingParams) -> tuple[str, ...]:
    """The samplers that change something, in their order."""
    return tuple(name for name in sampling.samplers if _IS_ON[name](sampling))


def seed_of(sampling: SamplingParams) -> int:
    assert sampling.seed is not None, "the engine sets one for every request"
    return sampling.seed


def repeats(sampling: SamplingParams) -> bool:
    """Whether tokens of the prompt are penalized too."""
    return sampling.repeat_penalty != 1.0 and sampling.repeat_last_n > 0


def _counts(sampling: SamplingParams) -> bool:
    return sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0


@dataclass(frozen=True)
class Links:
    """Makes the links of one answer of at most `max_tokens`; whoever adds one to a
    chain hands over its memory.
    """

    model: Model
    sampling: SamplingParams
    prompt: Seq[int]
    max_tokens: int

    def of(self, name: str) -> Iterator[ctypes.c_void_p]:
        """In their order; of a sampler that is on. Names are llama.cpp's."""
        sampling, seed = self.sampling, seed_of(self.sampling) & _MASK32
        if name == "penalties":
            yield from self._penalties()
        elif name == "dry":
            yield self._dry()
        elif name == "top_n_sigma":
            yield llama_cpp.llama_sampler_init_top_n_sigma(sampling.top_n_sigma)
        elif name == "top_k":
            yield llama_cpp.llama_sampler_init_top_k(sampling.top_k)
        elif name == "typ_p":
            # Its sum over p log p is no number where a masked token's p is 0.
            yield llama_cpp.llama_sampler_init_min_p(_NO_CHANCE, 1)
            yield llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1)
        elif name == "top_p":
            yield llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)
        elif name == "min_p":
            yield llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1)
        elif name == "xtc":
            yield llama_cpp.llama_sampler_init_xtc(
                sampling.xtc_probability, sampling.xtc_threshold, 1, seed
            )
        elif name == "infill":
            yield self.model.infill_sampler()
        else:
            assert name == "temperature", name
            yield self.temperature()

    def temperature(self) -> ctypes.c_void_p:
        sampling = self.sampling
        link: ctypes.c_void_p = llama_cpp.llama_sampler_init_temp_ext(
            sampling.temperature, sampling.dynatemp_range, sampling.dynatemp_exponent
        )
        return link

    def mirostat(self) -> ctypes.c_void_p:
        """It draws by itself, in the order of the answer's tokens: so what it chooses
        follows from the seed too.
        """
        sampling, seed = self.sampling, seed_of(self.sampling) & _MASK32
        tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
        link: ctypes.c_void_p
        if sampling.mirostat == 1:
            link = llama_cpp.llama_sampler_init_mirostat(
                self.model.num_vocab, seed, tau, eta, _MIROSTAT_TOKENS
            )
        else:
            link = llama_cpp.llama_sampler_init_mirostat_v2(seed, tau, eta)
        return link

    def _penalties(self) -> Iterator[ctypes.c_void_p]:
        sampling, num_vocab = self.sampling, self.model.num_vocab
        if repeats(sampling):
            last_n = min(sampling.repeat_last_n, self.max_tokens)
            repeat = llama_cpp.llama_sampler_init_penalties(
                num_vocab, last_n, sampling.repeat_penalty, 0.0, 0.0
            )
            for token in self.prompt[-last_n:]:
                llama_cpp.llama_sampler_accept(repeat, token)
            yield repeat
        if _counts(sampling):
            # A penalty of its own, because these two look at the whole answer and not
            # at the prompt.
            yield llama_cpp.llama_sampler_init_penalties(
                num_vocab,
                self.max_tokens,
                1.0,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            )

    def _dry(self) -> ctypes.c_void_p:
        """ "Don't repeat yourself":
        against tokens that would go on with what was there before.
        """
        sampling, most = self.sampling, self.max_tokens
        last_n = most if sampling.dry_penalty_last_n < 0 else min(sampling.dry_penalty_last_n, most)
        dry = self.model.dry_sampler(
            sampling.dry_multiplier,
            sampling.dry_base,
            sampling.dry_allowed_length,
            last_n,
            breakers=sampling.dry_sequence_breakers,
        )
        for token in self.prompt[-last_n:]:
            llama_cpp.llama_sampler_accept(dry, token)
        return dry
