"""What choosing the next tokens costs: by llama.cpp's own chain, by ours in one thread,
and by ours in several.

Run: python -m bench.sampling MODEL.gguf [NUM_STEPS [NUM_SLOTS]]

All slots decode together; after each decode every way samples each slot from the same
logits (in a varying order), with equal seeds. Prints the median microseconds of a
step's sampling, by way and sampling parameters. What matters is the model's vocabulary,
not its answers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import llama_cpp

from appliance.engine.batch import Batch
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.sampling.choosing import Draw, Sampling
from appliance.llama.sampling.sampler import SamplerChain
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from bench.model_file import model_file

SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0),
    "default (top-k 40)": SamplingParams(),
    "min-p without top-k": SamplingParams(top_k=0, top_p=1.0),
    "temperature alone": SamplingParams(top_k=0, top_p=1.0, min_p=0.0),
    "default, repeat penalty": SamplingParams(repeat_penalty=1.1),
    "greedy, end ignored": SamplingParams(temperature=0.0, ignore_eos=True),
    "default, 5 logprobs": SamplingParams(num_top_logprobs=5),
    "greedy, logprobs": SamplingParams(temperature=0.0, num_top_logprobs=0),
}
WARM_UP_STEPS = 3


class Slots:
    """One model, one context, and as many sequences
    as there are slots, decoding in step.
    """

    def __init__(self, path: Path, num_slots: int) -> None:
        self.model = Model(path, use_extra_bufts=False)
        self.threads = os.cpu_count() or 1
        self.context = Context(
            self.model,
            ContextConfig(
                sizes=ContextSizes(
                    kv_cells=8192,
                    slots=num_slots,
                    max_rows=64,
                    kv_type="f16",
                    threads=self.threads,
                    batch_threads=self.threads,
                    ubatch_rows=64,
                )
            ),
        )
        self.rows = list(range(num_slots))
        self._tokens = [100 + slot for slot in self.rows]
        self._position = 0

    def decode(self) -> None:
        batch = Batch()
        for slot, token in enumerate(self._tokens):
            batch.add(token, self._position, slot, wants_logits=True)
        self.context.decode(batch)
        self._position += 1
        self._tokens = [(token * 7 + 1) % self.model.num_vocab for token in self._tokens]

    def chains(self, sampling: SamplingParams) -> list[SamplerChain]:
        return [
            SamplerChain(self.model, replace(sampling, seed=slot), [], 4096) for slot in self.rows
        ]


def with_draw(chain: SamplerChain, seed: int) -> SamplerChain:
    """With llama.cpp's own draw at the end of the chain, where it is not greedy."""
    if chain.is_random:
        llama_cpp.llama_sampler_chain_add(chain.handle, llama_cpp.llama_sampler_init_dist(seed))
    return chain


def ways(slots: Slots, sampling: SamplingParams) -> dict[str, Callable[[], None]]:
    serial, parallel = (slots.chains(sampling) for _ in range(2))
    native = [with_draw(chain, slot) for slot, chain in enumerate(slots.chains(sampling))]
    one, several = Sampling(1), Sampling(slots.threads, min_shared_logits=0)

    def by_llama_cpp() -> None:
        for row, chain in zip(slots.rows, native, strict=True):
            llama_cpp.llama_sampler_sample(chain.handle, slots.context.handle, row)

    def ours(chooser: Sampling, chains: list[SamplerChain]) -> None:
        rows = slots.context.logits_in_place(slots.rows)
        chooser.choose([Draw(chain, [row]) for chain, row in zip(chains, rows, strict=True)])

    return {
        "llama_sampler_sample": by_llama_cpp,
        "one thread": lambda: ours(one, serial),
        f"{slots.threads} threads": lambda: ours(several, parallel),
    }


def measure(slots: Slots, sampling: SamplingParams, num_steps: int) -> dict[str, float]:
    """Median microseconds of sampling all slots once, by way."""
    times_us: dict[str, list[float]] = defaultdict(list)
    chosen = list(ways(slots, sampling).items())
    for step in range(WARM_UP_STEPS + num_steps):
        slots.decode()
        for name, sample in chosen[step % 3 :] + chosen[: step % 3]:
            started = time.perf_counter()
            sample()
            if step >= WARM_UP_STEPS:
                times_us[name].append((time.perf_counter() - started) * 1e6)
    return {name: round(median(times)) for name, times in times_us.items()}


def main(argv: list[str]) -> None:
    num_steps = int(argv[1]) if len(argv) > 1 else 20
    slots = Slots(model_file(argv[0]), int(argv[2]) if len(argv) > 2 else 8)
    print(
        f"{len(slots.rows)} slots, vocabulary {slots.model.num_vocab}: microseconds a step, "
        f"median of {num_steps}"
    )
    for name, sampling in SAMPLINGS.items():
        print(f"{name:24}", json.dumps(measure(slots, sampling, num_steps)))


if __name__ == "__main__":
    main(sys.argv[1:])
