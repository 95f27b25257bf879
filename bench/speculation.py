"""Speculation on against off on real models, by turns in one process: the engine as the
worker has it, from the first token on, prompt included.

Run: python -m bench.speculation TARGET.gguf --text TEXT.txt --code CODE.txt
     [--draft DRAFT.gguf] [--bad-draft BAD.gguf] [--fixed-depth N] [--streams 1,2,4,8]
     [--rounds 5] [--tokens 200] [--workloads free,code,copy]
     [--drafters lookup,draft,both,bad,heads] [--states N] [--json FILE] [--kernels]

Workloads: `free` goes on with prose at temperature 0.8, `greedy` at 0, `code` with
source code, and `copy` writes a passage of its prompt again with one token in 30
changed: its answer is dictated, for models as small as ours cannot copy, but everything
is computed and sampled as if it were not. Each round runs every drafter and
twice none, in random order, each with a controller that knows nothing yet. Printed are
the medians of tokens/s with drafts over the mean of both without, and their spread;
`again` is one without over the other, which should be 1; `fixed` always drafts
`--fixed-depth` tokens. `heads` are the target's own; a target with a state keeps
`--states` earlier ones of each sequence where it drafts. `--kernels` computes with all
kernels of our own, and flash attention.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.constraint import Constraint
from appliance.engine.cost import AttentionCost, StepCost
from appliance.engine.drafting.controlled import ControlledDrafting
from appliance.engine.drafting.drafter import Drafting, DraftRequest, DraftRoom, DraftUse
from appliance.engine.drafting.prompt_lookup import PromptLookup
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Broken
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import ChosenToken, SampleRequest
from appliance.errors import DecodeFailed
from appliance.llama.checks import find_kernels
from appliance.llama.context import ContextConfig
from appliance.llama.draft import DraftModel, load_draft
from appliance.llama.kernels.loading import all_of, use_kernels
from appliance.llama.model import Model
from appliance.llama.own_heads import OwnHeads
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from bench.model_file import model_file

# without drafts, twice a round: the second shows how much of a ratio is noise
OFF = ("off", "again")
MAX_DRAFT_ROWS = 32
KV_CELLS = 8192
PROMPT_TOKENS = 120
THREADS = 2
CHANGED_EVERY = 30
NO_EOS = SamplingParams(temperature=0.0, ignore_eos=True)


@dataclass(frozen=True)
class Workload:
    """Prompts, one per stream;
    with `dictated` answers where the model's own do not count.
    """

    name: str
    prompts: list[list[int]]
    sampling: SamplingParams
    dictated: list[list[int]] | None = None


class DictatedRunner(LlamaRunner):
    """Computes and samples everything, and then answers what was dictated."""

    def __init__(self, model: Model, config: ContextConfig, workload: Workload) -> None:
        super().__init__(model, config)
        self._answers = dict(
            zip(map(tuple, workload.prompts), workload.dictated or [], strict=False)
        )
        self._dictated: dict[int, tuple[list[int], int]] = {}

    def open_sampler(
        self,
        slot: int,
        sampling: SamplingParams,
        prompt: Seq[int],
        constraint: Constraint | None = None,
    ) -> None:
        super().open_sampler(slot, sampling, prompt, constraint)
        self._dictated[slot] = (self._answers[tuple(prompt)], 0)

    def sample(self, requests: Seq[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        super().sample(requests)
        return [self._dictate(request) for request in requests]

    def _dictate(self, request: SampleRequest) -> list[ChosenToken] | DecodeFailed:
        answer, at = self._dictated[request.slot]
        choices: list[ChosenToken] = []
        for drafted in (*request.drafted, None):
            choices.append(ChosenToken(answer[at + len(choices)]))
            if choices[-1].token != drafted:
                break
        self._dictated[request.slot] = (answer, at + len(choices))
        return choices


class FixedDrafting:
    """Always as deep: what other servers do."""

    def __init__(self, model: DraftModel, depth: int) -> None:
        self._model = model
        self._depth = depth
        self._use = DraftUse()

    @property
    def total(self) -> DraftUse:
        return self._use

    def use(self, slot: int) -> DraftUse:  # noqa: ARG002 - the Protocol's signature
        return self._use

    def remember(self, tokens: Seq[int]) -> None:
        pass

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        depth = min(self._depth, room.most_rows // len(room.sequences))
        requests = [
            DraftRequest(
                slot=seq.slot or 0,
                tokens=seq.tokens,
                num_new_tokens=seq.num_new_tokens,
                sampling=seq.sampling,
                most_tokens=depth,
            )
            for seq in room.sequences
        ]
        proposals = self._model.propose(requests)
        self._use.num_drafted += sum(len(one.tokens) for one in proposals)
        return {
            seq.request_id: one.tokens
            for seq, one in zip(room.sequences, proposals, strict=True)
            if one.tokens
        }

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:  # noqa: ARG002 - likewise
        self._use.num_accepted += sum(num_accepted.values())

    def release(self, slot: int, request_id: int) -> None:  # noqa: ARG002 - the Protocol's signature
        self._model.release(slot)


class Bench:
    """The models, and what a step of the target takes."""

    def __init__(self, args: argparse.Namespace) -> None:
        if args.kernels:
            library = find_kernels()
            if isinstance(library, str):
                sys.exit(f"Our own kernels {library}.")
            use_kernels(all_of(library))
        with_heads = "heads" in args.drafters.split(",")
        self.target = Model(args.target, use_extra_bufts=False, with_heads=with_heads)
        self.num_tokens = args.tokens
        self.rollback_states = args.states if self.target.memory.has_state else 0
        self.fixed_depth = args.fixed_depth
        self.flash_attention = args.kernels
        self.draft_paths = {"draft": args.draft, "bad": args.bad_draft}
        runner = LlamaRunner(self.target, self.config(1))
        runner.warm_up()
        cost = StepCost(runner.capabilities.attention)
        engine = Engine(runner, Limits(2048, 10**6, 1000), KeepPolicy(0, 0.0), cost=cost)
        engine.learn_curve(8.0)
        runner.close()
        self.learned = cost.state()
        for name, path in self.draft_paths.items():
            if path is not None:
                draft = self.draft(name, 1)
                row_ms = draft.cost(
                    [
                        DraftRequest(
                            slot=0, tokens=[1], num_new_tokens=0, sampling=NO_EOS, most_tokens=1
                        )
                    ]
                ).token_ms
                draft.close()
                print(
                    f"{name}: {row_ms:.2f} ms a token, the target {self.row_ms(cost):.2f} ms",
                    flush=True,
                )

    @staticmethod
    def row_ms(cost: StepCost) -> float:
        return cost.estimate_ms(cost.shape(1, 200, 200)) or 0.0

    def config(self, num_streams: int, rollback_states: int = 0) -> ContextConfig:
        return ContextConfig(
            sizes=ContextSizes(
                kv_cells=KV_CELLS,
                slots=num_streams,
                max_rows=256,
                kv_type="f16",
                threads=THREADS,
                ubatch_rows=128,
                max_draft_rows=MAX_DRAFT_ROWS,
                batch_threads=THREADS,
                flash_attention=self.flash_attention,
                rollback_states=rollback_states,
            )
        )

    def draft_config(self, num_streams: int) -> ContextConfig:
        sizes = self.config(num_streams).sizes
        return ContextConfig(sizes=replace(sizes, kv_cells=512 * num_streams, max_draft_rows=0))

    def draft(self, name: str, num_streams: int) -> DraftModel:
        path = self.draft_paths[name]
        assert path is not None, f"no file for {name}"
        model = load_draft(path, self.target, use_extra_bufts=False, use_mmap=True)
        draft = DraftModel(
            model,
            self.draft_config(num_streams),
            num_target_vocab=self.target.num_vocab,
            attention=AttentionCost(1.0),
        )
        draft.learn_curve()
        return draft

    def drafting(self, name: str, cost: StepCost, draft: DraftModel | None) -> Drafting | None:
        lookup = PromptLookup() if name in ("lookup", "both") else None
        if name == "fixed":
            assert draft is not None
            return FixedDrafting(draft, self.fixed_depth)
        return None if name in OFF else ControlledDrafting(lookup, draft, cost)

    def rate(self, workload: Workload, drafter: str) -> tuple[float, DraftUse]:
        """Tokens per second of all streams together."""
        num_streams = len(workload.prompts)
        config = self.config(num_streams, 0 if drafter in OFF else self.rollback_states)
        runner = (
            DictatedRunner(self.target, config, workload)
            if workload.dictated
            else LlamaRunner(self.target, config)
        )
        runner.warm_up()
        cost = StepCost(runner.capabilities.attention)
        cost.restore(self.learned)
        draft: DraftModel | None = None
        if drafter == "heads":
            draft = runner.add_heads(OwnHeads, self.draft_config(num_streams))
            draft.learn_curve()
        elif drafter in ("draft", "both", "bad", "fixed"):
            draft = self.draft("bad" if drafter == "bad" else "draft", num_streams)
        drafting = self.drafting(drafter, cost, draft)
        engine = Engine(
            runner, Limits(2048, 10**6, 1000), KeepPolicy(0, 0.0), cost=cost, drafting=drafting
        )
        started_s = time.perf_counter()
        for at, prompt in enumerate(workload.prompts):
            engine.submit(
                EngineRequest(
                    request_id=at,
                    prompt=prompt,
                    sampling=workload.sampling,
                    max_new_tokens=self.num_tokens,
                )
            )
        while engine.has_work:
            assert not any(isinstance(output, Broken) for output in engine.step())
        elapsed_s = time.perf_counter() - started_s
        if draft is not None:
            draft.close()
        runner.close()
        return num_streams * self.num_tokens / elapsed_s, replace(engine.drafts)


def workloads(args: argparse.Namespace, model: Model, num_streams: int) -> list[Workload]:
    makers: dict[str, Callable[[], Workload]] = {
        "free": lambda: _going_on(
            "free", model, args.text, num_streams, replace(NO_EOS, temperature=0.8, seed=7)
        ),
        "greedy": lambda: _going_on("greedy", model, args.text, num_streams, NO_EOS),
        "code": lambda: _going_on("code", model, args.code, num_streams, NO_EOS),
        "copy": lambda: _copying(model, args.text, num_streams, args.tokens),
    }
    return [makers[name]() for name in args.workloads.split(",")]


def _tokens(model: Model, path: Path, num_tokens: int) -> list[int]:
    return model.tokenize(path.read_text(encoding="utf-8")[: 8 * num_tokens], parse_special=False)


def _going_on(
    name: str, model: Model, path: Path, num_streams: int, sampling: SamplingParams
) -> Workload:
    tokens = _tokens(model, path, num_streams * PROMPT_TOKENS)
    prompts = [tokens[at * PROMPT_TOKENS : (at + 1) * PROMPT_TOKENS] for at in range(num_streams)]
    return Workload(name, prompts, sampling)


def _copying(model: Model, path: Path, num_streams: int, num_tokens: int) -> Workload:
    tokens = _tokens(model, path, num_streams * num_tokens)
    passages = [tokens[at * num_tokens : (at + 1) * num_tokens] for at in range(num_streams)]
    changed = [
        [
            token if at % CHANGED_EVERY else (token + 1) % model.num_vocab
            for at, token in enumerate(passage)
        ]
        for passage in passages
    ]
    return Workload("copy", passages, NO_EOS, changed)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=model_file)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--code", type=Path)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--bad-draft", type=Path)
    parser.add_argument("--fixed-depth", type=int, default=8)
    parser.add_argument("--streams", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--workloads", default="free,greedy,code,copy")
    parser.add_argument("--drafters", default="lookup,draft,both,bad")
    parser.add_argument("--states", type=int, default=4)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--kernels", action="store_true")
    args = parser.parse_args(argv)
    bench = Bench(args)
    drafters = [*OFF, *args.drafters.split(",")]
    rng = random.Random(1)
    records = []
    for num_streams in map(int, args.streams.split(",")):
        for workload in workloads(args, bench.target, num_streams):
            rates: dict[str, list[float]] = {name: [] for name in drafters}
            uses: dict[str, DraftUse] = {}
            for _ in range(args.rounds):
                for name in rng.sample(drafters, len(drafters)):
                    rate, uses[name] = bench.rate(workload, name)
                    rates[name].append(rate)
            for name in drafters[1:]:
                offs = list(zip(*(rates[off] for off in OFF if off != name), strict=True))
                ratios = [
                    on / statistics.mean(off) for on, off in zip(rates[name], offs, strict=True)
                ]
                use = uses[name]
                median, off = statistics.median(ratios), statistics.median(rates["off"])
                print(
                    f"{num_streams} x {workload.name:6} {name:6} {median:6.3f} ({min(ratios):.3f} "
                    f"to {max(ratios):.3f}) of {off:7.1f} tok/s, "
                    f"{use.num_accepted}/{use.num_drafted} accepted, gain {use.real_ms:.0f} of "
                    f"{use.expected_ms:.0f} ms",
                    flush=True,
                )
                records.append(
                    {
                        "streams": num_streams,
                        "workload": workload.name,
                        "drafter": name,
                        "off": off,
                        "ratios": ratios,
                    }
                )
    if args.json is not None:
        args.json.write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
