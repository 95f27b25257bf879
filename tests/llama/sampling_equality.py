"""Run as a child: our sampling in one thread and in four, beside llama.cpp's samplers
on the whole vocabulary.

Usage: python -m tests.llama.sampling_equality MODEL.gguf NUM_TOKENS
Every sampling of `SAMPLINGS` runs in a slot of its own, all slots together; after each
step the three tokens of each slot are compared, and the oracle's goes on. The oracle
shows llama.cpp's chain every token and takes the largest logit plus Gumbel number of
what that leaves. Prints JSON: the tokens compared, those that differed, how far the
log-probabilities were from float64's, and what became of the slot in the middle when
its logits were no numbers.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from appliance.engine.batch import Batch
from appliance.engine.runner import ChosenToken
from appliance.errors import DecodeFailed
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.sampling.choosing import Draw, Sampling
from appliance.llama.sampling.logits import Row
from appliance.llama.sampling.noise import Noise
from appliance.llama.sampling.sampler import SamplerChain
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams

SAMPLINGS = (
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=0.0),
    SamplingParams(seed=3, temperature=1e-7, num_top_logprobs=0),
    SamplingParams(seed=4, temperature=1.5, top_k=1, num_top_logprobs=5),
    SamplingParams(seed=5, temperature=1.5, top_k=200, top_p=1.0, min_p=0.0),
    SamplingParams(seed=6, temperature=1.2, top_k=300, num_top_logprobs=20),
    SamplingParams(seed=7, temperature=1.0, top_k=0, top_p=0.9, min_p=0.0),
    SamplingParams(seed=8, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    SamplingParams(seed=9, top_k=0, top_p=1.0, min_p=0.1),
    SamplingParams(seed=10, repeat_penalty=1.3, ignore_eos=True),
    SamplingParams(seed=11, temperature=0.0, presence_penalty=0.5, frequency_penalty=0.5),
    SamplingParams(seed=12, logit_bias={17: 5.0, 4: -100.0}),
    SamplingParams(seed=13, repeat_penalty=1.3, repeat_last_n=8, top_k=0),
    SamplingParams(seed=14, temperature=0.0, repeat_penalty=1.5, ignore_eos=True),
    SamplingParams(seed=16, temperature=0.0, ignore_eos=True),
    SamplingParams(seed=26, temperature=0.0, logit_bias={17: -3.0, 4: -100.0}),
    SamplingParams(seed=27, temperature=0.0, logit_bias={17: 3.0, 4: -100.0}),
    SamplingParams(seed=15, temperature=1.5, top_k=220, presence_penalty=-1.0),
    SamplingParams(seed=17, typical_p=0.7),
    SamplingParams(seed=18, typical_p=0.6, temperature=0.0),
    SamplingParams(seed=19, top_n_sigma=1.5, temperature=1.3),
    SamplingParams(seed=20, xtc_probability=0.5, xtc_threshold=0.05),
    SamplingParams(seed=21, dry_multiplier=0.8, dry_allowed_length=1),
    SamplingParams(
        seed=22, dry_multiplier=0.8, dry_penalty_last_n=16, temperature=0.0, ignore_eos=True
    ),
    SamplingParams(seed=23, mirostat=1),
    SamplingParams(seed=2**40 + 24, mirostat=2, mirostat_tau=3.0, repeat_penalty=1.2),
    SamplingParams(seed=25, dynatemp_range=0.5, dynatemp_exponent=1.5),
    SamplingParams(
        seed=16, temperature=0.0, frequency_penalty=-0.5, logit_bias={17: 5.0}, ignore_eos=True
    ),
)
PROMPT = "It was a dark night, and the old house"


def chosen(choices: list[ChosenToken] | DecodeFailed) -> list[ChosenToken]:
    assert isinstance(choices, list), choices
    return choices


def exact_logprobs(row: Row) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    exact = row.astype(np.float64)
    exact -= exact.max()
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = exact - math.log(
        float(np.exp(exact).sum())
    )
    return result


def logprob_error(row: Row, choice: ChosenToken) -> float:
    """The largest difference from float64; infinite where the most likely are not those
    of a full sort.
    """
    if choice.logprobs is None:
        return 0.0
    exact = exact_logprobs(row)
    top = choice.logprobs.top
    if not np.array_equal(np.sort(exact)[::-1][: len(top)], exact[[t.token for t in top]]):
        return math.inf
    reported = [(choice.token, choice.logprobs.chosen), *top]
    return max(abs(float(exact[token]) - logprob) for token, logprob in reported)


def oracle(chain: SamplerChain, sampling: SamplingParams, row: Row, index: int) -> int:
    """What the whole vocabulary in float64 brings; accepted into the chain."""
    entries = np.zeros(len(row), [("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
    entries["id"], entries["logit"] = np.arange(len(row)), row
    address = ctypes.cast(entries.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    array = llama_cpp.llama_token_data_array(address, len(row), -1, False)
    llama_cpp.llama_sampler_apply(chain.handle, ctypes.byref(array))
    left = np.ctypeslib.as_array(
        ctypes.cast(array.data, ctypes.POINTER(ctypes.c_int32)), (array.size, 3)
    )
    if array.selected >= 0:  # greedy
        token = int(left[array.selected, 0])
    else:
        ids, logits = left[:, 0], left[:, 1].copy().view(np.float32)
        token = int(ids[(logits + Noise(sampling.seed or 0).gumbels(index, ids)).argmax()])
    llama_cpp.llama_sampler_accept(chain.handle, token)
    return token


def main(argv: list[str]) -> None:
    model = Model(Path(argv[0]), use_extra_bufts=False)
    num_tokens = int(argv[1])
    slots = range(len(SAMPLINGS))
    context = Context(
        model,
        ContextConfig(
            sizes=ContextSizes(
                kv_cells=4096,
                slots=len(SAMPLINGS),
                max_rows=512,
                kv_type="f16",
                threads=2,
                batch_threads=2,
                ubatch_rows=256,
            )
        ),
    )
    prompt = model.tokenize(PROMPT, parse_special=False)
    chains = [
        [SamplerChain(model, sampling, prompt, num_tokens) for sampling in SAMPLINGS]
        for _way in range(3)
    ]
    serial, parallel = Sampling(1), Sampling(4, min_shared_logits=0)
    batch = Batch()
    for slot in slots:
        for position, token in enumerate(prompt):
            batch.add(token, position, slot, wants_logits=position == len(prompt) - 1)
    context.decode(batch)
    rows = [(slot + 1) * len(prompt) - 1 for slot in slots]
    report: dict[str, Any] = {"compared": 0, "different": 0, "logprob_error": 0.0}
    for step in range(num_tokens):
        logits = context.logits_in_place(rows)
        ours = serial.choose([Draw(chains[0][slot], [logits[slot]]) for slot in slots])
        threads = parallel.choose([Draw(chains[1][slot], [logits[slot]]) for slot in slots])
        batch = Batch()
        for slot in slots:
            token = oracle(chains[2][slot], SAMPLINGS[slot], logits[slot], step)
            [choice] = chosen(ours[slot])
            report["compared"] += 1
            report["different"] += choice.token != token or threads[slot] != [choice]
            report["logprob_error"] = max(
                report["logprob_error"], logprob_error(logits[slot], choice)
            )
            batch.add(token, len(prompt) + step, slot, wants_logits=True)
        context.decode(batch)
        rows = list(slots)
    logits = context.logits_in_place(rows)
    middle = len(slots) // 2
    logits[middle][17] = math.nan
    last = parallel.choose([Draw(chains[0][slot], [logits[slot]]) for slot in slots])
    report["without_numbers"] = type(last.pop(middle)).__name__
    assert all(len(chosen(choices)) == 1 for choices in last)
    serial.close()
    parallel.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
