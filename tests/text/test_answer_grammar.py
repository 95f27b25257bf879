"""What is written at random within the masks of a required call always parses as one,
in every way of writing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.answer_formats import format_of
from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import (
    CallArguments,
    CallBegun,
    CallEnded,
    Part,
    Reasoning,
    Text,
    joined,
)
from appliance.text.grammar import AnswerGrammar, GrammarConstraint, Grammars, TokenTexts
from appliance.text.marked_format import MarkedFormat
from tests.text.written_answers import NOTE, TOOLS, WRITTEN, Written

FORMS = {written.evidence: written for written in WRITTEN if "text" not in written.name}
MAX_BYTES = 6000
each_form = pytest.mark.parametrize("written", FORMS.values(), ids=lambda written: written.name)


class Vocabulary:
    """Every byte, and the marks of a format:
    those in angle brackets and bars as special tokens.
    """

    def __init__(self, form: AnswerFormat) -> None:
        names = [
            mark.encode() for mark in form.marks if mark.startswith("<|") and mark.endswith(">")
        ]
        self.texts = [*(bytes([value]) for value in range(256)), *names, b"<end>"]
        self.end = len(self.texts) - 1
        self.grammars = Grammars(
            TokenTexts(
                texts=self.texts,
                special=range(256, len(self.texts)),
                end_tokens=[self.end],
                bos=None,
                tokenize=list,
            )
        )


def random_answer(
    vocabulary: Vocabulary,
    constraint: GrammarConstraint,
    closings: Sequence[bytes],
    seed: int,
    wanted: bytes = b"",
) -> str:
    """Random tokens that may come, `wanted` first; where any text may come, now and
    then one of `closings`, so that it ends.
    """
    chance = random.Random(seed)
    answer: list[int] = []
    while True:
        bits = int.from_bytes(constraint.mask(), "little")
        may_come = [token for token in range(vocabulary.end) if bits >> token & 1]
        specials = [token for token in may_come if token >= 256]
        if bits >> vocabulary.end & 1 and not wanted and (not may_come or chance.random() < 0.7):
            return b"".join(vocabulary.texts[token] for token in answer).decode(
                "utf-8", errors="replace"
            )
        if not wanted and len(may_come) > 60 and chance.random() < 0.5:
            wanted = chance.choice(closings)
        if wanted and wanted[0] in may_come:
            token, wanted = wanted[0], wanted[1:]
        else:
            wanted = b""
            token = chance.choice(specials if specials and chance.random() < 0.3 else may_come)
        answer.append(token)
        constraint.accept(token)
        assert len(answer) < MAX_BYTES


def closings_of(form: AnswerFormat) -> list[bytes]:
    marks = [mark.encode() for mark in [*form.marks, form.forced_end(may_call=True).strip()]]
    return [b'"', *(mark for mark in marks if mark), *(b"\n" + mark for mark in marks if mark)]


def calls_in(parts: Sequence[Part]) -> list[tuple[str, dict[str, object]]]:
    """Every call's name and arguments; nothing else may be there but reasoning."""
    names = [part.name for part in parts if isinstance(part, CallBegun)]
    arguments = [json.loads(part.text) for part in parts if isinstance(part, CallArguments)]
    assert sum(isinstance(part, CallEnded) for part in parts) == len(names)
    assert not any(isinstance(part, Text) for part in parts), parts
    return list(zip(names, arguments, strict=True))


@each_form
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_required_calls_always_parse(written: Written, several: bool) -> None:
    form = format_of(written.evidence)
    vocabulary = Vocabulary(form)
    for seed in range(25):
        opening = (Opening.FRESH, Opening.REASONING if form.can_reason else Opening.FRESH)[seed % 2]
        constraint = vocabulary.grammars.compile_answer(
            AnswerGrammar(form=form, opening=opening, tools=list(TOOLS.values()), several=several)
        )
        answer = random_answer(vocabulary, constraint, closings_of(form), seed)
        parser = AnswerParser(form, TOOLS, opening)
        calls = calls_in(joined([*parser.feed(answer), *parser.finish(is_cut=False)]))
        assert len(calls) >= 1 if several else len(calls) == 1, answer
        for name, arguments in calls:
            assert set(arguments) >= TOOLS[name].required, answer
            assert isinstance(arguments.get("days", 0), int), answer
            assert arguments.get("unit", "C") in ("C", "F"), answer


@each_form
def test_a_named_call_is_of_that_function(written: Written) -> None:
    form = format_of(written.evidence)
    vocabulary = Vocabulary(form)
    constraint = vocabulary.grammars.compile_answer(
        AnswerGrammar(form=form, opening=Opening.FRESH, tools=[NOTE])
    )
    answer = random_answer(vocabulary, constraint, closings_of(form), 1)
    parser = AnswerParser(form, TOOLS, Opening.FRESH)
    assert [
        name for name, _ in calls_in(joined([*parser.feed(answer), *parser.finish(is_cut=False)]))
    ] == ["note"]


@each_form
def test_a_form_of_text_comes_behind_whatever_reasoning(written: Written) -> None:
    form = format_of(written.evidence)
    vocabulary = Vocabulary(form)
    properties = {"a": {"type": "integer"}}
    schema = json.dumps(
        {
            "type": "object",
            "properties": properties,
            "required": ["a"],
            "additionalProperties": False,
        }
    )
    for opening in (Opening.FRESH, Opening.REASONING) if form.can_reason else (Opening.FRESH,):
        for seed in range(6):
            constraint = vocabulary.grammars.compile_answer(
                AnswerGrammar(form=form, opening=opening, text=(GrammarKind.JSON_SCHEMA, schema))
            )
            answer = random_answer(vocabulary, constraint, closings_of(form), seed)
            parser = AnswerParser(form, {}, opening)
            parts = joined([*parser.feed(answer), *parser.finish(is_cut=False)])
            (text,) = [part.text for part in parts if isinstance(part, Text)]
            assert isinstance(json.loads(text)["a"], int)
            assert all(isinstance(part, Text | Reasoning) for part in parts)


@each_form
def test_strict_functions_may_be_called_behind_any_text_and_only_as_they_are(
    written: Written,
) -> None:
    form = format_of(written.evidence)
    vocabulary = Vocabulary(form)
    wanted = AnswerGrammar(
        form=form, opening=Opening.FRESH, tools=list(TOOLS.values()), several=True, is_free=True
    )
    mark = form.calls[0].section[0] + form.calls[0].begin if isinstance(form, MarkedFormat) else ""
    is_literal = mark and "<|" not in mark  # else only its token begins a call
    for seed in range(8):
        constraint = vocabulary.grammars.compile_answer(wanted)
        answer = random_answer(
            vocabulary, constraint, closings_of(form), seed, b"Well." + mark.encode()
        )
        parser = AnswerParser(form, TOOLS, Opening.FRESH)
        parts = joined([*parser.feed(answer), *parser.finish(is_cut=False)])
        calls = calls_in([part for part in parts if not isinstance(part, Text)])
        assert calls or not is_literal, answer
        for name, arguments in calls:
            assert set(arguments) >= TOOLS[name].required, answer
