"""Run as a child: greedy answers one at a time against the same
in company, token by token.

Usage: python -m tests.llama.batch_equality MODEL.gguf PROMPTS.json NUM_TOKENS KV_TYPE
[kernels], the last one to compute with our own.
Prints JSON: for each answer that differs, the gap between the two best
log-probabilities where it first does (kernels that depend on the batch's shape may turn
a near-tie), and the most sequences in one decode.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.fit.tuning.choices import uses_flash_attention
from appliance.llama.context import Context, ContextConfig
from appliance.llama.kernels.loading import identity
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from tests.llama.all_kernels import use_all_kernels

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


def attends_quickly(kv_type: str) -> bool:
    return identity() != "none" or uses_flash_attention(kv_type)


def answers(
    model: Model, prompts: list[list[int]], num_tokens: int, num_slots: int, kv_type: str
) -> tuple[list[list[int]], int]:
    """All prompts submitted at once to `num_slots` slots; their tokens, and the most
    sequences in one decode.
    """
    config = ContextConfig(
        sizes=ContextSizes(
            kv_cells=1024 * num_slots,
            slots=num_slots,
            max_rows=256,
            kv_type=kv_type,
            threads=2,
            flash_attention=attends_quickly(kv_type),
            ubatch_rows=128,
            batch_threads=2,
        )
    )
    runner = LlamaRunner(model, config)
    engine = Engine(runner, Limits(1024, 1_000_000, 200), KeepPolicy(0, 0.0))
    for request_id, prompt in enumerate(prompts):
        engine.submit(
            EngineRequest(
                request_id=request_id, prompt=prompt, sampling=GREEDY, max_new_tokens=num_tokens
            )
        )
    tokens: dict[int, list[int]] = defaultdict(list)
    most_together = 0
    while engine.has_work:
        outputs = engine.step()
        most_together = max(most_together, len(outputs))
        for output in outputs:
            assert isinstance(output, Sampled), output
            tokens[output.request_id].append(output.token)
    runner.close()
    return [tokens[i] for i in range(len(prompts))], most_together


def gap(model: Model, tokens: list[int], kv_type: str) -> float:
    """Difference of the two best log-probabilities after `tokens`."""
    context = Context(
        model,
        ContextConfig(
            sizes=ContextSizes(
                kv_cells=1024,
                slots=1,
                max_rows=1024,
                kv_type=kv_type,
                threads=2,
                flash_attention=attends_quickly(kv_type),
                batch_threads=2,
                ubatch_rows=1024,
            )
        ),
    )
    batch = Batch()
    for position, token in enumerate(tokens):
        batch.add(token, position, 0, wants_logits=position == len(tokens) - 1)
    context.decode(batch)
    best = np.sort(context.logits(len(tokens) - 1))[-2:]
    context.close()
    return float(best[1] - best[0])


def main(argv: list[str]) -> None:
    if argv[4:] == ["kernels"]:
        use_all_kernels()
    model = Model(Path(argv[0]), use_extra_bufts=False)
    prompts = [
        model.tokenize(text, parse_special=False) for text in json.loads(Path(argv[1]).read_text())
    ]
    num_tokens, kv_type = int(argv[2]), argv[3]
    alone, _ = answers(model, prompts, num_tokens, 1, kv_type)
    together, most_together = answers(model, prompts, num_tokens, 4, kv_type)
    gaps = []
    for prompt, one, other in zip(prompts, alone, together, strict=True):
        assert len(one) == len(other) == num_tokens
        if one != other:
            at = next(i for i in range(num_tokens) if one[i] != other[i])
            gaps.append(gap(model, prompt + one[:at], kv_type))
    print(json.dumps({"gaps": gaps, "most_together": most_together}))


if __name__ == "__main__":
    main(sys.argv[1:])
