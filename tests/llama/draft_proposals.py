"""What a draft model proposes, on real files. Prints one JSON record.

Run: python -m tests.llama.draft_proposals TARGET.gguf DRAFT.gguf
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cost import AttentionCost
from appliance.engine.drafting.drafter import DraftRequest
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.requests import EngineRequest
from appliance.llama.context import ContextConfig
from appliance.llama.draft import DraftModel, load_draft
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from bench.speculation import FixedDrafting

GREEDY = SamplingParams(temperature=0.0, seed=1, ignore_eos=True)
SEEDED = SamplingParams(temperature=0.8, seed=1, ignore_eos=True)
NUM_TOKENS = 150
DEPTH = 4


def make_draft(path: Path, target: Model, num_slots: int, window: int) -> DraftModel:
    model = load_draft(path, target, use_extra_bufts=False, use_mmap=True)
    config = ContextConfig(
        sizes=ContextSizes(
            kv_cells=num_slots * window,
            slots=num_slots,
            max_rows=256,
            kv_type="f16",
            threads=2,
            ubatch_rows=128,
            batch_threads=2,
        )
    )
    return DraftModel(
        model, config, num_target_vocab=target.num_vocab, attention=AttentionCost(1.0)
    )


def ask(draft: DraftModel, sequences: dict[int, list[int]], most: int = 6) -> list[tuple[int, ...]]:
    requests = [
        DraftRequest(slot=slot, tokens=tokens, num_new_tokens=0, sampling=GREEDY, most_tokens=most)
        for slot, tokens in sequences.items()
    ]
    return [proposal.tokens for proposal in draft.propose(requests)]


def num_other_than_anew(path: Path, target: Model, num_rounds: int) -> int:
    """Two slots go on with some of what was drafted, then something else: how often a
    draft without a past differs.
    """
    rng = random.Random(5)
    grown, num_other = make_draft(path, target, 2, 512), 0
    sequences = {slot: [rng.randrange(10, 4000) for _ in range(8 + 5 * slot)] for slot in (0, 1)}
    for _ in range(num_rounds):
        proposed = ask(grown, sequences)
        for slot, tokens in zip(sequences, proposed, strict=True):
            fresh = make_draft(path, target, 2, 512)
            [anew] = ask(fresh, {slot: sequences[slot]})
            fresh.close()
            num_other += anew != tokens
        for slot, tokens in zip(sequences, proposed, strict=True):
            sequences[slot] += [*tokens[: rng.randint(0, len(tokens))], rng.randrange(10, 4000)]
            if rng.random() < 0.2:
                grown.release(slot)
                sequences[slot] = [rng.randrange(10, 4000) for _ in range(9)]
    grown.close()
    return num_other


def share_accepted(path: Path, target: Model, way: SamplingParams, window: int) -> float:
    """Of drafts always `DEPTH` deep, for three answers in two slots."""
    config = ContextConfig(
        sizes=ContextSizes(
            kv_cells=2048,
            slots=2,
            max_rows=256,
            kv_type="f16",
            threads=2,
            ubatch_rows=128,
            max_draft_rows=2 * DEPTH,
            batch_threads=2,
        )
    )
    runner = LlamaRunner(target, config)
    drafting = FixedDrafting(make_draft(path, target, 2, window), DEPTH)
    engine = Engine(runner, Limits(1024, 10_000, 200), KeepPolicy(0, 0.0), drafting=drafting)
    for number in range(3):
        prompt = target.tokenize(
            "It was a bright cold day, and the wind " * (number + 1), parse_special=False
        )
        engine.submit(
            EngineRequest(
                request_id=number,
                prompt=prompt,
                sampling=replace(way, seed=number),
                max_new_tokens=NUM_TOKENS,
            )
        )
    while engine.has_work:
        engine.step()
    runner.close()
    return engine.drafts.num_accepted / engine.drafts.num_drafted


def main(argv: list[str]) -> None:
    target_path, draft_path = map(Path, argv)
    target = Model(target_path, use_extra_bufts=False)
    report = {
        "num_other": num_other_than_anew(draft_path, target, 12),
        "greedy_itself": share_accepted(target_path, target, GREEDY, 512),
        "seeded_itself": share_accepted(target_path, target, SEEDED, 512),
        "seeded_itself_short_window": share_accepted(target_path, target, SEEDED, 96),
        "greedy_small": share_accepted(draft_path, target, GREEDY, 512),
        "seeded_small": share_accepted(draft_path, target, SEEDED, 512),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
