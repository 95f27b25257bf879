"""Run as a child: answers without drafts against the same with drafts, right and wrong
ones, token by token.

Usage: python -m tests.llama.drafted_equality MODEL.gguf PROMPTS.json NUM_TOKENS
    KV_TYPE {greedy|seeded} [DRAFT.gguf]
Drafted is what was answered without, up to six tokens at a time, each wrong with a
chance of 0.15, four sequences at once; with a draft model, what that proposes, in every
second step. Prints JSON: for each answer that differs, how
far apart the two best tokens were where it first does, in logits over temperature plus
noise (kernels that depend on the batch's shape may turn a near-tie); the tokens drafted
and accepted; and the cells that were left in use.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

import numpy as np

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.drafting.drafter import Drafting, DraftRequest, DraftRoom, DraftUse
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.fit.tuning.choices import uses_flash_attention
from appliance.llama.context import Context, ContextConfig
from appliance.llama.draft import DraftModel
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.llama.sampling.noise import Noise
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from tests.llama.draft_proposals import make_draft

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
SEEDED = SamplingParams(temperature=0.8, top_k=0, top_p=1.0, min_p=0.0, ignore_eos=True)
MOST_DEPTH = 6
WRONG = 0.15
NUM_SLOTS = 4


class KnownDrafting:
    """Drafts answers that are known, with mistakes."""

    def __init__(self, answers: Seq[Seq[int]]) -> None:
        self._answers = answers
        self._rng = random.Random(1)
        self.num_drafted = 0
        self.num_accepted = 0

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        sequences, most_rows = room.sequences, room.most_rows
        drafted = {}
        equal = self._rng.randint(0, MOST_DEPTH)
        for seq in sequences:
            wanted = equal if room.wants_equal_rows else self._rng.randint(0, MOST_DEPTH)
            depth = min(wanted, most_rows // len(sequences))
            known = self._answers[seq.request_id][seq.num_new_tokens :][:depth]
            drafted[seq.request_id] = tuple(token ^ (self._rng.random() < WRONG) for token in known)
        self.num_drafted += sum(map(len, drafted.values()))
        return drafted

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        self.num_accepted += sum(num_accepted.values())

    @property
    def total(self) -> DraftUse:
        return DraftUse(self.num_drafted, self.num_accepted)

    def use(self, slot: int) -> DraftUse:
        return self.total

    def remember(self, tokens: Seq[int]) -> None:
        pass

    def release(self, slot: int, request_id: int) -> None:
        """Nothing is kept by slot."""


class ModelDrafting(KnownDrafting):
    """Drafts what a model proposes, and what is known, by turns."""

    def __init__(self, answers: Seq[Seq[int]], draft: DraftModel) -> None:
        super().__init__(answers)
        self._draft_model = draft
        self.num_proposed = 0

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        known = super().draft(room)
        proposals = self._draft_model.propose(
            [
                DraftRequest(
                    slot=seq.admitted_slot,
                    tokens=seq.tokens,
                    num_new_tokens=seq.num_new_tokens,
                    sampling=seq.sampling,
                    most_tokens=len(known[seq.request_id]),
                )
                for seq in room.sequences
            ]
        )
        depth = min((len(each.tokens) for each in proposals), default=0)
        if self._rng.random() < 0.5 or depth < max(map(len, known.values()), default=0):
            return known
        self.num_proposed += depth * len(proposals)
        return {
            seq.request_id: each.tokens[:depth]
            for seq, each in zip(room.sequences, proposals, strict=True)
        }

    def release(self, slot: int, request_id: int) -> None:
        self._draft_model.release(slot)


def answers(
    model: Model,
    prompts: list[list[int]],
    num_tokens: int,
    kv_type: str,
    way: SamplingParams,
    drafting: Drafting | None,
) -> tuple[list[list[int]], int]:
    """The tokens of all prompts, and the cells in use at the end."""
    config = ContextConfig(
        sizes=ContextSizes(
            kv_cells=1024 * NUM_SLOTS,
            slots=NUM_SLOTS,
            max_rows=256,
            kv_type=kv_type,
            threads=2,
            flash_attention=uses_flash_attention(kv_type),
            ubatch_rows=128,
            max_draft_rows=NUM_SLOTS * MOST_DEPTH,
            rollback_states=MOST_DEPTH,
            batch_threads=2,
        )
    )
    runner = LlamaRunner(model, config)
    assert runner.capabilities.max_draft_rows
    limits, policy = Limits(1024, 1_000_000, 200), KeepPolicy(0, 0.0)
    # without time, steps have the same rows on any machine
    engine = Engine(runner, limits, policy, drafting=drafting, clock=lambda: 0.0)
    for request_id, prompt in enumerate(prompts):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=prompt,
                sampling=replace(way, seed=request_id),
                max_new_tokens=num_tokens,
            )
        )
    tokens: dict[int, list[int]] = defaultdict(list)
    while engine.has_work:
        for output in engine.step():
            assert isinstance(output, Sampled), output
            tokens[output.request_id].append(output.token)
    runner.close()
    return [tokens[i] for i in range(len(prompts))], engine.num_used_cells


def gap(
    model: Model, tokens: list[int], kv_type: str, way: SamplingParams, seed: int, index: int
) -> float:
    """How far apart the two best tokens are that may follow."""
    context = Context(
        model,
        ContextConfig(
            sizes=ContextSizes(
                kv_cells=1024,
                slots=1,
                max_rows=1024,
                kv_type=kv_type,
                threads=2,
                flash_attention=uses_flash_attention(kv_type),
                batch_threads=2,
                ubatch_rows=1024,
            )
        ),
    )
    batch = Batch()
    for position, token in enumerate(tokens):
        batch.add(token, position, 0, wants_logits=position == len(tokens) - 1)
    context.decode(batch)
    scores = context.logits(len(tokens) - 1).astype(np.float64)
    if way.temperature > 0:
        scores = scores / way.temperature + Noise(seed).gumbels(index, np.arange(len(scores)))
    scores[list(model.end_tokens)] = -np.inf
    context.close()
    best = np.sort(scores)[-2:]
    return float(best[1] - best[0])


def main(argv: list[str]) -> None:
    model = Model(Path(argv[0]), use_extra_bufts=False)
    prompts = [
        model.tokenize(text, parse_special=False) for text in json.loads(Path(argv[1]).read_text())
    ]
    num_tokens, kv_type, way = int(argv[2]), argv[3], GREEDY if argv[4] == "greedy" else SEEDED
    plain, _ = answers(model, prompts, num_tokens, kv_type, way, None)
    draft = make_draft(Path(argv[5]), model, NUM_SLOTS, 256) if argv[5:] else None
    drafting = KnownDrafting(plain) if draft is None else ModelDrafting(plain, draft)
    drafted, num_left = answers(model, prompts, num_tokens, kv_type, way, drafting)
    gaps = []
    for number, (prompt, one, other) in enumerate(zip(prompts, plain, drafted, strict=True)):
        assert len(one) == len(other) == num_tokens
        if one != other:
            at = next(i for i in range(num_tokens) if one[i] != other[i])
            gaps.append(gap(model, prompt + one[:at], kv_type, way, number, at))
    report = {
        "gaps": gaps,
        "num_drafted": drafting.num_drafted,
        "num_accepted": drafting.num_accepted,
        "num_cells_left": num_left,
        "num_proposed": getattr(drafting, "num_proposed", 0),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
