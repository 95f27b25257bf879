"""Run as a child: chats on a model whose sequences share no cells, turn by turn, against
the same answers with nothing kept.

Usage: python -m tests.llama.state_equality MODEL.gguf KV_TYPE [kernels], the last one to
compute with our own.
Prints JSON: `is_exact`, whether no answer may differ at all; `computed`, for each chat and
turn, how many rows it took beyond its answer's, and `new`, how many tokens of its prompt
were new; `gaps`, for each answer that differs, the gap between the two best
log-probabilities where it first does; the same of what went on after a restart
(`restarted`) and of sequences that gave way (`preempted`).
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from tests.llama.all_kernels import use_all_kernels
from tests.llama.batch_equality import attends_quickly, gap

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
CTX, ANSWER, TURNS, CHATS = 900, 20, 5, 3
SYSTEM, QUESTION = 120, 30
ROOM = 1 << 28
POOL, LONG_ANSWER = 256, 60  # of 3 x (50 + 59) cells, as many as would be needed


@dataclass
class Talk:
    """A model, and what is asked of it."""

    model: Model
    kv_type: str
    request_id: int = 0
    gaps: list[float] = field(default_factory=list)
    num_preempted: int = 0  # steps that somebody gave way in
    is_exact: bool = False  # as its runner says

    def engine(self, room: int = ROOM, cells: int = 4 * CTX) -> Engine:
        sizes = ContextSizes(
            kv_cells=cells,
            slots=3,
            max_rows=256,
            kv_type=self.kv_type,
            threads=2,
            flash_attention=attends_quickly(self.kv_type),
            ubatch_rows=64,
            batch_threads=2,
        )
        runner = LlamaRunner(self.model, ContextConfig(sizes=sizes))
        runner.warm_up()
        self.is_exact = runner.capabilities.exact_rows
        policy = KeepPolicy(0, 1e9, max_host_bytes=room)
        # without time, steps have the same rows on any machine
        return Engine(runner, Limits(CTX, 1_000_000, 200), policy, clock=lambda: 0.0)

    def ask(
        self, engine: Engine, prompts: list[list[int]], num_tokens: int = ANSWER
    ) -> list[list[int]]:
        """The answers; all are asked at once."""
        first = self.request_id
        for prompt in prompts:
            engine.submit(
                EngineRequest(
                    request_id=self.request_id,
                    prompt=prompt,
                    sampling=GREEDY,
                    max_new_tokens=num_tokens,
                    places={SYSTEM: True, len(prompt) - 3: False},
                )
            )
            self.request_id += 1
        found: dict[int, list[int]] = defaultdict(list)
        while engine.has_work:
            outputs = engine.step()
            self.num_preempted += engine.num_preempted > 0
            for output in outputs:
                assert isinstance(output, Sampled), output
                found[output.request_id].append(output.token)
        return [found[first + at] for at in range(len(prompts))]

    def compare(self, prompt: list[int], answer: list[int], alone: Engine) -> None:
        [expected] = self.ask(alone, [prompt], len(answer))
        if answer != expected:
            at = next(i for i in range(len(answer)) if answer[i] != expected[i])
            self.gaps.append(gap(self.model, prompt + answer[:at], self.kv_type))


def main(argv: list[str]) -> None:
    if argv[2:] == ["kernels"]:
        use_all_kernels()
    model = Model(Path(argv[0]), use_extra_bufts=False)
    talk = Talk(model, argv[1])
    chance = random.Random(7)

    def tokens(count: int) -> list[int]:
        return [chance.randrange(5, model.num_vocab // 2) for _ in range(count)]

    engine, alone = talk.engine(), talk.engine(room=0)
    system = tokens(SYSTEM)
    chats = [[*system, *tokens(QUESTION)] for _ in range(CHATS)]
    computed: list[list[int]] = [[] for _ in chats]
    for _ in range(TURNS):
        for at, chat in enumerate(chats):
            num_rows = engine.num_rows
            [answer] = talk.ask(engine, [chat])
            computed[at].append(engine.num_rows - num_rows - (ANSWER - 1))
            talk.compare(chat, answer, alone)
            chats[at] = [*chat, *answer, *tokens(QUESTION)]
    together = talk.ask(engine, chats)
    for chat, answer in zip(chats, together, strict=True):
        talk.compare(chat, answer, alone)
    print(
        json.dumps(
            {
                "is_exact": talk.is_exact,
                "computed": computed,
                "gaps": talk.gaps,
                "restarted": _restarted(talk, engine, chats[0], tokens(QUESTION), alone),
                "preempted": _preempted(talk, [tokens(50) for _ in range(3)], alone),
            }
        )
    )


def _restarted(
    talk: Talk, engine: Engine, chat: list[int], more: list[int], alone: Engine
) -> dict[str, object]:
    """The next turn on a new context that was given what was kept for the disk."""
    later = talk.engine()
    num_files = 0
    while (saved := engine.next_for_disk()) is not None:
        saved.on_disk = True
        later.take_back(saved)
        num_files += 1
    known, talk.gaps = talk.gaps, []
    prompt = [*chat[:-3], *more]
    [answer] = talk.ask(later, [prompt])
    talk.compare(prompt, answer, alone)
    gaps, talk.gaps = talk.gaps, known
    num_prompt_rows = later.num_rows - (ANSWER - 1)
    return {"files": num_files, "computed": num_prompt_rows, "new": len(more), "gaps": gaps}


def _preempted(talk: Talk, prompts: list[list[int]], alone: Engine) -> dict[str, object]:
    """Three answers in a pool of cells that holds all of them but their ends."""
    engine = talk.engine(cells=POOL)
    known, talk.gaps = talk.gaps, []
    answers = talk.ask(engine, prompts, LONG_ANSWER)
    for prompt, answer in zip(prompts, answers, strict=True):
        talk.compare(prompt, answer, alone)
    gaps, talk.gaps = talk.gaps, known
    return {"gaps": gaps, "rows": engine.num_rows, "times": talk.num_preempted}


if __name__ == "__main__":
    main(sys.argv[1:])
