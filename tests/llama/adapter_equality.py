"""Run as a child: sequences with other adapters beside each other, against the same alone.

Usage: python -m tests.llama.adapter_equality MODEL.gguf KV_TYPE LORA LORA VECTOR [kernels], the
last one to compute with our own.
Prints JSON: `gaps`, for each answer that differs from what the same adapters say with
nothing kept and nobody beside, the gap between the two best log-probabilities where it
first does; `told`, these gaps of each token of the first answers; `computed`, how many rows
the second turn of each set took beyond its answer's, and `restarted` after a restart.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.llama.adapters import Adapters
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.adapters import AdapterFile, AdapterKind
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from appliance.store.gguf_header import read_header
from appliance.store.tensors.adapter_files import read_adapter
from appliance.worker.child.prefix_files import PrefixFiles
from tests.llama.all_kernels import use_all_kernels
from tests.llama.batch_equality import attends_quickly

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True, num_top_logprobs=2)
CTX, ANSWER, PROMPT, QUESTION = 900, 20, 300, 30
ROOM = 1 << 28
SETS = {
    "none": NO_ADAPTERS,
    "first": AdapterSet(1 << 90, ((0, 1.0),)),
    "weak": AdapterSet(2 << 90, ((0, 0.4),)),
    "both": AdapterSet(3 << 90, ((0, 0.7), (1, 1.0))),
    "vector": AdapterSet(4 << 90, ((2, 1.0),)),
    "all": AdapterSet(5 << 90, ((0, 1.0), (2, -0.5))),
}


@dataclass(frozen=True)
class Told:
    """An answer, and how near its best tokens were to the next ones."""

    tokens: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


class Talk:
    """A model with its adapters, and what is asked of it."""

    def __init__(self, path: Path, files: list[AdapterFile], kv_type: str) -> None:
        self.kv_type = kv_type
        self.path = path
        self.files = files
        self.model = Model(path, use_extra_bufts=False)
        self.gaps: list[float] = []
        self.alone = self.engine(room=0)

    def engine(self, room: int = ROOM) -> Engine:
        sizes = ContextSizes(
            kv_cells=4 * CTX,
            slots=3,
            max_rows=256,
            kv_type=self.kv_type,
            threads=2,
            flash_attention=attends_quickly(self.kv_type),
            ubatch_rows=64,
            batch_threads=2,
        )
        adapters = Adapters(self.model, self.files)
        runner = LlamaRunner(self.model, ContextConfig(sizes=sizes), adapters)
        runner.warm_up()
        policy = KeepPolicy(2 * CTX if room else 0, 1e9, max_host_bytes=room)
        ticks = iter(range(1 << 40))
        limits = Limits(CTX, 1_000_000, 200, adapter_turn_ms=20)
        return Engine(runner, limits, policy, clock=lambda: next(ticks) / 1000)

    def ask(self, engine: Engine, prompts: dict[str, list[int]]) -> dict[str, Told]:
        """The answers by each set; all are asked at once."""
        names = list(prompts)
        for request_id, name in enumerate(names):
            prompt = prompts[name]
            engine.submit(
                EngineRequest(
                    request_id=request_id,
                    prompt=prompt,
                    sampling=GREEDY,
                    max_new_tokens=ANSWER,
                    keeps_prefix=True,
                    places={PROMPT - 1: True, len(prompt) - 1: False},
                    adapters=SETS[name],
                )
            )
        told: dict[str, Told] = defaultdict(Told)
        while engine.has_work:
            for output in engine.step():
                assert isinstance(output, Sampled), output
                assert output.logprobs is not None
                best, second = output.logprobs.top
                told[names[output.request_id]].tokens.append(output.token)
                told[names[output.request_id]].gaps.append(best.logprob - second.logprob)
        return told

    def compare(self, prompts: dict[str, list[int]], told: dict[str, Told]) -> None:
        for name, prompt in prompts.items():
            expected = self.ask(self.alone, {name: prompt})[name]
            for one, other, gap in zip(
                expected.tokens, told[name].tokens, expected.gaps, strict=True
            ):
                if one != other:
                    self.gaps.append(gap)
                    break


def files_of(model: Path, paths: list[str]) -> list[AdapterFile]:
    header = read_header(model)
    files = []
    for path in map(Path, paths):
        checked = read_adapter(path, [header])
        is_vector = checked.is_control_vector
        files.append(
            AdapterFile(
                name=path.stem,
                kind=AdapterKind.CONTROL_VECTOR if is_vector else AdapterKind.LORA,
                path=str(path),
                num_bytes=checked.num_bytes,
                offsets=checked.offsets,
            )
        )
    return files


def next_turns(talk: Talk, engine: Engine, chats: dict[str, list[int]]) -> dict[str, int]:
    """How many rows each took beyond its answer's, which its chat has then."""
    computed = {}
    for name, chat in chats.items():
        before = engine.num_rows
        told = talk.ask(engine, {name: chat})
        computed[name] = engine.num_rows - before - (ANSWER - 1)
        talk.compare({name: chat}, told)
        chat += told[name].tokens[:-1]  # the last one is not computed
    return computed


def main(argv: list[str]) -> None:
    if argv[5:] == ["kernels"]:
        use_all_kernels()
    talk = Talk(Path(argv[0]), files_of(Path(argv[0]), argv[2:5]), argv[1])
    chance = random.Random(7)

    def tokens(count: int) -> list[int]:
        return [chance.randrange(5, talk.model.num_vocab // 2) for _ in range(count)]

    engine, prompt = talk.engine(), tokens(PROMPT)
    first = dict.fromkeys(SETS, prompt)
    told = talk.ask(engine, first)
    talk.compare(first, told)
    chats = {name: [*prompt, *told[name].tokens, *tokens(QUESTION)] for name in SETS}
    computed = next_turns(talk, engine, chats)
    with tempfile.TemporaryDirectory() as folder:
        files = PrefixFiles(Path(folder), "model", ROOM)
        while (saved := engine.next_for_disk()) is not None:
            assert files.write(saved)
            saved.on_disk = True
        again = talk.engine()
        for found in files.load(0.0, ROOM):
            again.take_back(found)
    later = {name: [*chat, *tokens(QUESTION)] for name, chat in chats.items()}
    restarted = next_turns(talk, again, later)
    print(
        json.dumps(
            {
                "gaps": talk.gaps,
                "told": {name: each.gaps for name, each in told.items()},
                "computed": computed,
                "restarted": restarted,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
