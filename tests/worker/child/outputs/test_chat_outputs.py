"""A chat from its messages to its events, with tokens scripted at the Runner seam in
place of a clever model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from appliance.engine.batch import Batch
from appliance.engine.cache.cells import KeepPolicy
from appliance.engine.constraint import Constraint
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import ChosenToken, SampleRequest
from appliance.errors import BadRequest, DecodeFailed
from appliance.protocol.events import Delta, Event, Finished, FinishReason
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar, ToolCallRules
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

    def __init__(self, template: str, script: str, request: GenerateRequest) -> None:
        vocabulary = Letters(template)
        prompts = Prompts(vocabulary, CTX)
        rendered = prompts.rendered(request.prompt)
        tokens = prompts.tokens(request.prompt, rendered)
        formats = OutputFormats(vocabulary, prompts.answer_format, LazyGrammars(vocabulary))
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
        events: list[Event] = [outputs.start(1, tokens, request, output_format.parser)]
        while engine.has_work:
            events += outputs.events(engine.step())
        self.prompt = rendered
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


def test_reasoning_text_and_calls_of_an_answer() -> None:
    said = Said(HERMES, f"<think>\nHm.\n</think>\n\nOk.\n{CALL}\n{CALL}", chat(TOOLS))
    assert (said.reasoning, said.text) == ("Hm.", "Ok.")
    assert said.calls == [("look", '{"a": 1}')] * 2
    assert (said.finished.reason, said.finished.has_tool_calls) == (FinishReason.STOP, True)
    assert (
        said.finished.usage.num_completion_tokens
        == len(f"<think>\nHm.\n</think>\n\nOk.\n{CALL}\n{CALL}") + 1
    )
    assert (
        sum(delta.num_tokens for delta in said.deltas) <= said.finished.usage.num_completion_tokens
    )
    # From its first letter to the mark behind it: what is no text yet counts as what
    # was before.
    assert said.finished.usage.num_reasoning_tokens == len("Hm.\n</think>\n\n")
    assert all(re.fullmatch(r"call_[A-Za-z0-9]{24}", an_id) for an_id in said.ids)
    assert len(set(said.ids)) == 2


def test_arguments_are_streamed_letter_by_letter() -> None:
    said = Said(HERMES, CALL, chat(TOOLS))
    assert [delta.tool_call.arguments for delta in said.deltas if delta.tool_call] == [
        "",
        *'{"a": 1}',
    ]


def test_special_tokens_that_are_marks_are_read_and_others_are_not() -> None:
    said = Said(MISTRAL, '<|noise|>Hi[TOOL_CALLS]look[ARGS]{"a": 1}<|noise|>', chat(TOOLS))
    assert (said.text, said.calls) == ("Hi", [("look", '{"a": 1}')])
    assert re.fullmatch("[A-Za-z0-9]{9}", said.ids[0]), "as its template wants it back"


def test_one_call_ends_the_answer_where_only_one_is_allowed() -> None:
    said = Said(HERMES, CALL + CALL + "more", chat(TOOLS, tool_calls=ToolCallRules(several=False)))
    assert (said.text, said.calls) == ("", [("look", '{"a": 1}')])
    assert said.finished.reason is FinishReason.STOP
    # The call is complete with its last bracket.
    assert said.finished.usage.num_completion_tokens == len(CALL) - len("\n</tool_call>")


def test_an_answer_cut_inside_a_call_says_so_and_leaks_none_of_it() -> None:
    for max_tokens in range(1, len(CALL)):
        said = Said(HERMES, CALL, chat(TOOLS, max_tokens=max_tokens))
        assert (said.text, said.finished.reason) == ("", FinishReason.LENGTH)


def test_stop_strings_are_looked_for_in_text_only() -> None:
    said = Said(HERMES, f"<think>a STOP b</think>c {CALL} d STOP e", chat(TOOLS, stop=["STOP"]))
    assert (said.reasoning, said.text, len(said.calls)) == ("a STOP b", "cd ", 1)
    assert said.finished.reason is FinishReason.STOP
    inside = Said(
        HERMES,
        '<tool_call>{"name": "look", "arguments": {"a": "STOP"}}</tool_call>',
        chat(TOOLS, stop=["STOP"]),
    )
    assert inside.calls == [("look", '{"a": "STOP"}')]


def test_required_calls_are_written_whatever_the_model_would_say() -> None:
    rules = ToolCallRules(is_required=True, several=False)
    said = Said(HERMES, "7" * 9, chat(TOOLS, {"reasoning_effort": "none"}, tool_calls=rules))
    (call,) = said.calls
    assert (said.text, call[0]) == ("", "look")
    assert isinstance(json.loads(call[1])["a"], int)
    assert said.finished.has_tool_calls


def test_strict_functions_are_called_as_they_are() -> None:
    script = 'Ok.<tool_call>\n{"name": "look", "arguments": {"b": 5}}\n</tool_call>'
    loose, strict = (
        Said(HERMES, script, chat(TOOLS, tool_calls=ToolCallRules(is_strict=value)))
        for value in (False, True)
    )
    assert loose.calls == [("look", '{"b": 5}')]
    assert strict.text == "Ok."
    assert isinstance(json.loads(strict.calls[0][1])["a"], int)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (GrammarKind.REGEX, "[0-9]{3}"),
        (GrammarKind.LARK, "start: /[0-9]{3}/"),
        (GrammarKind.GBNF, "root ::= digit digit digit\ndigit ::= [0-9]"),
        (GrammarKind.CHOICE, '["123", "no "]'),
        (GrammarKind.JSON_SCHEMA, '{"type": "integer", "minimum": 100, "maximum": 999}'),
    ],
)
def test_a_form_is_kept_to_behind_the_reasoning(kind: GrammarKind, source: str) -> None:
    grammar = Grammar(kind, source, "grammar")
    said = Said(HERMES, "<think>\nHm\n</think>\n\n123", chat(grammar=grammar))
    assert (said.reasoning, said.text) == ("Hm", "123")
    said = Said(HERMES, "no thoughts", chat(grammar=grammar))
    assert (said.reasoning, len(said.text)) == ("", 3)


def test_a_form_or_a_call() -> None:
    grammar = Grammar(GrammarKind.REGEX, "[0-9]{3}", "grammar")
    assert Said(HERMES, "123", chat(TOOLS, grammar=grammar)).text == "123"
    assert Said(HERMES, CALL, chat(TOOLS, grammar=grammar)).calls == [("look", '{"a": 1}')]


@pytest.mark.parametrize(("budget", "reasoning"), [(0, ""), (3, "abc"), (100, "abcdef")])
def test_reasoning_ends_where_its_budget_does(budget: int, reasoning: str) -> None:
    said = Said(HERMES, "<think>abcdef</think>Hi", chat(max_reasoning_tokens=budget))
    assert said.reasoning == reasoning
    assert said.text.endswith("Hi")


def test_effort_none_switches_reasoning_off_and_a_form_comes_at_once() -> None:
    grammar = Grammar(GrammarKind.REGEX, "[0-9]{3}", "grammar")
    said = Said(HERMES, "<think>", chat(grammar=grammar, prompt={"reasoning_effort": "none"}))
    assert said.prompt is not None
    assert said.prompt.endswith("<think>\n\n</think>\n\n")
    assert (said.reasoning, len(said.text)) == ("", 3)


def test_a_begun_thought_is_gone_on_with() -> None:
    messages = [HELLO, {"role": "assistant", "content": "<think>\nSo"}]
    said = Said(
        HERMES,
        " it is</think>Hi",
        GenerateRequest(prompt=ChatPrompt(messages=messages, continue_final_message=True)),
    )
    assert (said.reasoning, said.text) == ("it is", "Hi")


def test_earlier_calls_are_shown_as_the_template_wants_them() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"a": 1}'},
    }
    messages = [HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    said = Said(HERMES, "Hi", GenerateRequest(prompt=ChatPrompt(messages=messages)))
    assert (
        said.prompt == '<user>Hello<assistant><tool_call>{"name": "look", "arguments": {"a": '
        "1}}</tool_call><assistant>"
    )
    call["function"] = {"name": "look", "arguments": "{broken"}
    with pytest.raises(BadRequest, match="not valid JSON") as refused:
        Said(HERMES, "Hi", GenerateRequest(prompt=ChatPrompt(messages=messages)))
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat(TOOLS), "tools"),
        (chat(prompt={"reasoning_effort": "low"}), "reasoning_effort"),
        (chat(max_reasoning_tokens=5), "reasoning_budget"),
    ],
)
def test_what_a_model_cannot_do_is_refused(request_: GenerateRequest, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Said(BARE, "Hi", request_)
    assert refused.value.param == param


def test_effort_none_is_fine_for_a_model_that_does_not_reason() -> None:
    assert Said(BARE, "Hi", chat(prompt={"reasoning_effort": "none"})).text == "Hi"
