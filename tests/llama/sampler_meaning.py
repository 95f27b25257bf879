"""Run as a child: what each sampler chooses from a row of made-up chances.

Usage: python -m tests.llama.sampler_meaning MODEL.gguf < CASES
Cases are JSON: a list of {"sampling": fields, "chances": by token, "prompt": tokens,
"draws": how many}. Each draw is the first one of a chain with a seed of its own.
Prints, per case, how often each token was chosen.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from appliance.llama.model import Model
from appliance.llama.sampling.sampler import Candidates, SamplerChain
from appliance.protocol.sampling import SamplingParams

WITHOUT_FILTERS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def main(argv: list[str]) -> None:
    model, candidates = Model(Path(argv[0]), use_extra_bufts=False), Candidates()
    counts = []
    for case in json.load(sys.stdin):
        biases = case["sampling"].get("logit_bias", {})  # in JSON, names are texts
        fields = {**case["sampling"], "logit_bias": {int(t): bias for t, bias in biases.items()}}
        row = np.full(model.num_vocab, -np.inf, np.float32)
        for token, chance in case["chances"].items():
            row[int(token)] = np.log(chance)
        chosen: Counter[int] = Counter()
        for seed in range(case["draws"]):
            chain = SamplerChain(
                model,
                SamplingParams(**{**WITHOUT_FILTERS, **fields, "seed": seed}),
                case["prompt"],
                256,
            )
            chosen[chain.choose(row, candidates)] += 1
            chain.close()
        counts.append(chosen)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
