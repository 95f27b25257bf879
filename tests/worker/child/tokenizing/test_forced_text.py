"""Text that a grammar forces, in vocabularies that put a space in front of a text."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.engine.constraint import Constraint
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import Grammar
from appliance.text.answer_format import Opening
from appliance.text.answer_formats import format_of
from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import CallArguments, CallBegun, joined
from appliance.text.calls.syntax import Tool
from appliance.worker.child.tokenizing.forced_text import ForcedText
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from tests.conftest import SHARED, Embedded
from tests.llama.rewritten_gguf import rewritten

if TYPE_CHECKING:  # native code: loaded by the tests that need it, not for all of them
    from appliance.llama.model import Model

STORIES = SHARED / "models" / "stories260K"
MAX_TOKENS = 2000
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", " Oslo", "Zürich"]}, "count": {"const": 12}},
    "required": ["city", "count"],
    "additionalProperties": False,
}
FORCED = ["a", " a", "  two  blanks ", '{"name": "', "yes", "Zürich 日本", "\n", "\n\n a", " ", "é"]

# --- what is tokenized ----------------------------------------------------------------


class Prefixing:
    """A space in front of each text, and runs of blanks as one: as Unigram does it."""

    pieces = (b" ", b"a", b"b", b" a", b"ab", b"", b"\xee\x80\x80", b"?")

    def tokenize(self, text: str) -> list[int]:
        rest = re.sub(" +", " ", " " + text).encode()
        tokens = []
        while rest:
            size = next((n for n in (3, 2, 1) if rest[:n] in self.pieces), 0)
            tokens.append(self.pieces.index(rest[:size] if size else b"?"))
            rest = rest[size or len(rest.decode()[0].encode()) :]
        return tokens


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"a", [b"a"]),
        (b" a", [b" a"]),
        (b"bab", [b"b", b"ab"]),
        (b"b  ab", [b"b", b" ", b" a", b"b"]),  # by the longest tokens
        (b"", []),
        (b"aXb", [b"a"]),  # there is no token for what follows
        (b"\xee", []),
    ],
)
def test_forced_text_is_written_exactly(text: bytes, written: list[bytes]) -> None:
    vocabulary = Prefixing()
    forced = ForcedText(vocabulary.tokenize, vocabulary.pieces)
    assert [vocabulary.pieces[token] for token in forced.tokens(text)] == written


# --- real vocabularies ----------------------------------------------------------------


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not STORIES.is_dir():
        pytest.skip(f"needs {STORIES.name} in ../shared/models, which is not here")
    out = tmp_path_factory.mktemp("stories")
    command = [sys.executable, "-m", "convert", str(STORIES), "--out", str(out), "--types", "F32"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out / "stories260K-F32.gguf"


def without_prefix(name: str, value: object) -> object:
    return False if name == "tokenizer.ggml.add_space_prefix" else value


def unigram(name: str, value: object) -> object:
    return "t5" if name == "tokenizer.ggml.model" else value


VOCABULARIES: dict[str, Callable[[str, object], object]] = {
    "spm": lambda _name, value: value,
    "spm-without-prefix": without_prefix,
    "unigram": unigram,
}


@pytest.fixture(scope="module", params=VOCABULARIES)
def model(
    request: pytest.FixtureRequest, stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path = tmp_path_factory.mktemp(request.param) / "vocabulary.gguf"
    rewritten(stories, path, VOCABULARIES[request.param])
    model = load(path)
    yield model
    model.close()


def load(path: Path) -> Model:
    from appliance.llama.model import Model

    return Model(path, use_extra_bufts=False, vocab_only=True)


def forced_text(model: Model) -> ForcedText:
    return ForcedText(
        lambda text: model.tokenize(text, parse_special=False),
        [model.read_piece(token) for token in range(model.num_vocab)],
    )


def written(model: Model, constraint: Constraint, seed: int) -> str:
    """A random answer within the masks."""
    chance = random.Random(seed)
    text = b""
    for _ in range(MAX_TOKENS):
        bits = int.from_bytes(constraint.mask(), "little")
        may_come = [token for token in range(model.num_vocab) if bits >> token & 1]
        ends = model.end_tokens.intersection(may_come)
        token = min(ends) if ends else chance.choice(may_come)
        constraint.accept(token)
        if ends:
            return text.decode()
        text += model.piece(token)
    raise AssertionError(f"no end: {text!r}")


@pytest.mark.parametrize("text", FORCED)
def test_no_space_is_put_in_front_of_forced_text(model: Model, text: str) -> None:
    tokens = forced_text(model).tokens(text.encode())
    assert b"".join(map(model.piece, tokens)) == text.encode()


def test_forced_text_is_tokenized_as_it_is_behind_other_text(model: Model) -> None:
    """Not byte by byte: as the model has seen it."""
    behind, alone = (
        model.tokenize("Once" + text, parse_special=False) for text in (" upon a time", "")
    )
    assert behind[: len(alone)] == alone
    assert forced_text(model).tokens(b" upon a time") == behind[len(alone) :]


FORMS = [
    (GrammarKind.REGEX, r"yes( and no){2}", r"yes( and no){2}"),
    (GrammarKind.REGEX, r" led by blanks", r" led by blanks"),
    (GrammarKind.CHOICE, json.dumps(["one", " two", "three  four"]), r"one| two|three  four"),
    (GrammarKind.LARK, 'start: "answer: " /[0-9]{3}/', r"answer: [0-9]{3}"),
    (GrammarKind.GBNF, 'root ::= "say " ("ja" | "né")', r"say (ja|né)"),
    (GrammarKind.JSON_SCHEMA, '{"const": "a"}', '"a"'),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "source", "pattern"), FORMS)
def test_an_answer_whose_first_bytes_are_forced(
    model: Model, kind: GrammarKind, source: str, pattern: str, seed: int
) -> None:
    constraint = LazyGrammars(model).compile(Grammar(kind=kind, source=source, param="grammar"))
    assert re.fullmatch(pattern, written(model, constraint, seed))


@pytest.mark.parametrize("seed", range(5))
def test_a_schema_in_every_vocabulary(model: Model, seed: int) -> None:
    grammar = Grammar(
        kind=GrammarKind.JSON_SCHEMA, source=json.dumps(SCHEMA), param="response_format"
    )
    answer = json.loads(written(model, LazyGrammars(model).compile(grammar), seed))
    assert answer["city"] in ("Rome", " Oslo", "Zürich")
    assert answer["count"] == 12


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_in_every_vocabulary(model: Model, seed: int) -> None:
    tool = Tool("look_up", SCHEMA)
    form = format_of("<tool_call>")
    constraint = LazyGrammars(model).compile_answer(
        form, Opening.FRESH, None, [tool], several=False, is_free=False
    )
    parser = AnswerParser(form, {tool.name: tool}, Opening.FRESH)
    answer = written(model, constraint, seed)
    parts = joined([*parser.feed(answer), *parser.finish(is_cut=False)])
    assert [part.name for part in parts if isinstance(part, CallBegun)] == ["look_up"]
    [arguments] = [part.text for part in parts if isinstance(part, CallArguments)]
    assert json.loads(arguments)["count"] == 12


# --- a vocabulary that was right before -----------------------------------------------


def test_without_a_prefix_nothing_changes(embedded: Embedded) -> None:
    model = load(embedded.files["Q2_K"])
    try:
        forced = forced_text(model)
        for text in FORCED:
            assert forced.tokens(text.encode()) == model.tokenize(text, parse_special=False)
    finally:
        model.close()
