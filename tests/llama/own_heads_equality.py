"""Run as a child: a model with heads that draft for it, against the same without drafts.

Usage: python -m tests.llama.own_heads_equality MODEL.gguf PROMPTS.json NUM_TOKENS KV_TYPE
Four sequences at once. In each step the heads propose three tokens for each; in every
second one what they propose is drafted, else what was answered without drafts, each token
wrong with a chance of 0.15. Prints JSON: `gaps`, for each answer that differs, how far
apart the two best logits were where it first does; `num_proposed` tokens, `num_other` of
them that heads propose which have computed nothing before; `rows`, how many rows the heads
computed, and `expected_rows`; tokens drafted and accepted.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.drafting.drafter import DraftRequest, DraftRoom, DraftUse, Proposal
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.fit.tuning.choices import uses_flash_attention
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.own_heads import OwnHeads
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from tests.llama.drafted_equality import GREEDY, WRONG, gap

NUM_SLOTS, DEPTH, WINDOW = 4, 3, 256


class CountingHeads(OwnHeads):
    """Counts the rows that are computed."""

    num_rows = 0

    def _compute(self, batch: Batch) -> float:
        self.num_rows += len(batch)
        return super()._compute(batch)


class ForgetfulHeads(OwnHeads):
    """Reads everything anew each time."""

    def propose(self, requests: Seq[DraftRequest]) -> list[Proposal]:
        self._held.clear()
        return super().propose(requests)


class HeadsDrafting:
    """Drafts what heads propose, and what is known, by turns."""

    def __init__(self, heads: CountingHeads, fresh: OwnHeads, answers: Seq[Seq[int]]) -> None:
        self._heads, self._fresh, self._answers = heads, fresh, answers
        self._rng = random.Random(1)
        self._known: dict[int, int] = {}  # by slot: how many tokens the heads have read
        self._num_steps = 0
        self.num_proposed = self.num_other = self.num_expected_rows = 0
        self.num_drafted = self.num_accepted = 0

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        if len(room.sequences) < room.num_rows or room.most_rows < DEPTH * NUM_SLOTS:
            return {}
        requests = [
            DraftRequest(
                slot=seq.admitted_slot,
                tokens=seq.tokens,
                num_new_tokens=seq.num_new_tokens,
                sampling=seq.sampling,
                most_tokens=DEPTH,
            )
            for seq in room.sequences
        ]
        proposed = self._heads.propose(requests)
        for request in requests:
            # the first token has nothing in front
            known = self._known.get(request.slot, 1)
            self.num_expected_rows += len(request.tokens) - known + DEPTH - 1
            self._known[request.slot] = len(request.tokens)
        for one, other in zip(proposed, self._fresh.propose(requests), strict=True):
            assert len(one.tokens) == DEPTH
            self.num_proposed += DEPTH
            self.num_other += one.tokens != other.tokens
        self._num_steps += 1
        drafted = {}
        for seq, proposal in zip(room.sequences, proposed, strict=True):
            known_tokens = self._answers[seq.request_id][seq.num_new_tokens :][:DEPTH]
            wrong = [token ^ (self._rng.random() < WRONG) for token in known_tokens]
            drafted[seq.request_id] = proposal.tokens if self._num_steps % 2 else tuple(wrong)
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
        self._heads.release(slot)
        self._fresh.release(slot)
        self._known.pop(slot, None)


def config_of(kv_type: str) -> ContextConfig:
    return ContextConfig(
        sizes=ContextSizes(
            kv_cells=512 * NUM_SLOTS,
            slots=NUM_SLOTS,
            max_rows=256,
            kv_type=kv_type,
            threads=2,
            flash_attention=uses_flash_attention(kv_type),
            ubatch_rows=128,
            max_draft_rows=NUM_SLOTS * DEPTH,
            rollback_states=DEPTH,
            batch_threads=2,
        )
    )


def answers(
    runner: LlamaRunner, prompts: list[list[int]], num_tokens: int, drafting: HeadsDrafting | None
) -> list[list[int]]:
    engine = Engine(runner, Limits(512, 1_000_000, 200), KeepPolicy(0, 0.0), drafting=drafting)
    for request_id, prompt in enumerate(prompts):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=prompt,
                sampling=replace(GREEDY, seed=request_id),
                max_new_tokens=num_tokens,
            )
        )
    tokens: list[list[int]] = [[] for _ in prompts]
    while engine.has_work:
        for output in engine.step():
            assert isinstance(output, Sampled), output
            tokens[output.request_id].append(output.token)
    return tokens


def main(argv: list[str]) -> None:
    model = Model(Path(argv[0]), use_extra_bufts=False, with_heads=True)
    prompts = [
        model.tokenize(text, parse_special=False) for text in json.loads(Path(argv[1]).read_text())
    ]
    num_tokens, kv_type = int(argv[2]), argv[3]
    config = config_of(kv_type)
    runner = LlamaRunner(model, config)
    plain = answers(runner, prompts, num_tokens, None)
    sizes = replace(config.sizes, kv_cells=WINDOW * NUM_SLOTS, max_draft_rows=0, rollback_states=0)
    heads, fresh = (
        runner.add_heads(kind, replace(config, sizes=sizes))
        for kind in (CountingHeads, ForgetfulHeads)
    )
    assert isinstance(heads, CountingHeads)
    drafting = HeadsDrafting(heads, fresh, plain)
    drafted = answers(runner, prompts, num_tokens, drafting)
    gaps = []
    for number, (prompt, one, other) in enumerate(zip(prompts, plain, drafted, strict=True)):
        if one != other:
            at = next(i for i in range(num_tokens) if one[i] != other[i])
            gaps.append(gap(model, prompt + one[:at], kv_type, GREEDY, number, at))
    report = {
        "gaps": gaps,
        "num_proposed": drafting.num_proposed,
        "num_other": drafting.num_other,
        "rows": heads.num_rows,
        "expected_rows": drafting.num_expected_rows,
        "num_drafted": drafting.num_drafted,
        "num_accepted": drafting.num_accepted,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
