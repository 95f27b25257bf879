"""A chat from its messages to its events, with tokens scripted at the Runner seam in
place of a clever model. Shared by several test files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.constraint import Constraint
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import ChosenToken, SampleRequest
from appliance.errors import DecodeFailed
from appliance.protocol.events import Delta, Event, Finished
from appliance.protocol.requests import ChatPrompt, GenerateRequest
from appliance.protocol.sampling import SamplingParams
from appliance.worker.child.outputs.text_outputs import TextOutputs
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from appliance.worker.child.tokenizing.output_formats import OutputFormats
from appliance.worker.child.tokenizing.prompts import Prompts
from tests.engine.fake_runner import FakeRunner

SPECIAL = {250: "[TOOL_CALLS]", 251: "[ARGS]", 252: "<|noise|>", 255: "<|end|>"}
END = 255
CTX = 1000
WORDS = re.compile("|".join(re.escape(name) for name in SPECIAL.values()) + "|.", re.DOTALL)
IDS = {name: token for token, name in SPECIAL.items()}

HERMES = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ "
    "m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson "
    "}}</tool_call>{% endfor %}{% endfor %}{% if add_generation_prompt %}<assistant>{% if "
    "enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif "
    "%}{% endif %}"
)
MISTRAL = "{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}{# [TOOL_CALLS] [ARGS] #}"
BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"

ONE_NUMBER = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
LOOK = {"name": "look", "parameters": ONE_NUMBER}
TOOLS = [{"type": "function", "function": LOOK}]
HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
CALL = '<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'


def tokens_of(text: str) -> list[int]:
    return [IDS.get(word, ord(word[0])) for word in WORDS.findall(text)]


class Letters:
    """A vocabulary of ASCII letters and a few special tokens."""

    bos = None
    eos = END
    adds_bos = False
    num_vocab = 256
    adds_space_prefix = prefixes_blanks = False
    end_tokens = frozenset({END})

    def __init__(self, template: str) -> None:
        self._template = template

    def piece(self, token: int) -> bytes:
        return b"" if token in SPECIAL else bytes([token])

    read_piece = piece

    def written(self, token: int) -> bytes:
        return self.text_of(token).encode()

    def begins_text(self, token: int) -> bool:
        return token in SPECIAL

    def metadata(self, key: str) -> str | None:
        return self._template if key == "tokenizer.chat_template" else None

    def text_of(self, token: int | None) -> str:
        return SPECIAL.get(token, chr(token)) if token is not None else ""

    def longest_piece_bytes(self) -> int:
        return 1

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        return tokens_of(text) if parse_special else list(text.encode())


class SayingRunner(FakeRunner):
    """Says `script`, token by token; where a constraint forbids the next one, what it
    allows instead.
    """

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__(num_cells=CTX, num_slots=1)
        self.capabilities = replace(self.capabilities, num_vocab=256, end_tokens=frozenset({END}))
        self.script = [*script, END]
        self._num_said = 0
        self._constraint: Constraint | None = None

    def open_sampler(
        self,
        slot: int,
        sampling: SamplingParams,
        prompt: Sequence[int],
        constraint: Constraint | None = None,
    ) -> None:
        super().open_sampler(slot, sampling, prompt, constraint)
        self._constraint = constraint

    def decode(self, batch: Batch) -> None:
        super().decode(batch)

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        return [[ChosenToken(self._next())] for _ in requests]

    def _next(self) -> int:
        wanted = self.script[self._num_said]
        if self._constraint is not None:
            mask = int.from_bytes(self._constraint.mask(), "little")
            if not mask >> wanted & 1:
                wanted = next(token for token in range(256) if mask >> token & 1)
                self._constraint.accept(wanted)
                return wanted
            self._constraint.accept(wanted)
        self._num_said += 1
        return wanted


class Said:
    """The events of one answer, put together."""

    def __init__(
        self, template: str, script: str, request: GenerateRequest, **settings: str
    ) -> None:
        vocabulary = Letters(template)
        prompts = Prompts(vocabulary, CTX, **settings)
        rendered = prompts.rendered(request.prompt)
        tokens = prompts.tokens(request.prompt, rendered)
        formats = OutputFormats(vocabulary, LazyGrammars(vocabulary), prompts.end_of_turn)
        output_format = formats.prepare(request, rendered)
        engine = Engine(
            SayingRunner(tokens_of(script)), Limits(CTX, 10**6, 1000), KeepPolicy(0, 0.0)
        )
        outputs = TextOutputs(vocabulary.piece, engine.finish, vocabulary.text_of)
        engine.submit(
            EngineRequest(
                request_id=1,
                prompt=tokens,
                sampling=request.sampling,
                max_new_tokens=request.max_tokens,
                constraint=output_format.constraint,
            )
        )
        events: list[Event] = [
            outputs.start(
                1, tokens, request, output_format.parser, end_of_turn=output_format.end_of_turn
            )
        ]
        while engine.has_work:
            events += outputs.events(engine.step())
        self.prompt = rendered.text if rendered is not None else None
        deltas = [event for event in events if isinstance(event, Delta)]
        self.deltas = deltas
        self.text = "".join(delta.text for delta in deltas)
        self.reasoning = "".join(delta.reasoning for delta in deltas)
        begun = [
            delta.tool_call
            for delta in deltas
            if delta.tool_call is not None and delta.tool_call.name
        ]
        self.ids = [call.id for call in begun]
        self.calls = [
            (
                call.name,
                "".join(
                    d.tool_call.arguments
                    for d in deltas
                    if d.tool_call is not None and d.tool_call.index == call.index
                ),
            )
            for call in begun
        ]
        (self.finished,) = [event for event in events if isinstance(event, Finished)]


def chat(
    tools: list[dict[str, Any]] | None = None, prompt: dict[str, Any] | None = None, **fields: Any
) -> GenerateRequest:
    return GenerateRequest(
        prompt=ChatPrompt(messages=[HELLO], tools=tools, **(prompt or {})), **fields
    )
