"""Text that is no beginning of one: around a gap, and at the end of reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.protocol.requests import InfillPrompt
from appliance.store.models import read_servable_header
from appliance.worker.child.tokenizing.forced_text import forced_text, tokens_within
from appliance.worker.child.tokenizing.infill import infill_tokens
from tests.vocabularies.charsmaps import charsmap
from tests.vocabularies.kinds import KINDS, byte_level, unigram, without
from tests.vocabularies.made_model import write_vocabulary
from tests.vocabularies.served import Served

if TYPE_CHECKING:  # native code: loaded by the tests that need it, not for all of them
    from appliance.llama.model import Model

GAP = {"prefix": "the answer", "suffix": "yes\n<MID>", "prefill": "is"}
ENDS = ["<bot>\n\n", "the\n\n", "x<bot>y<user>", " the", "", "<bot>"]


@pytest.fixture(scope="module", params=KINDS)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    from appliance.llama.model import Model

    path = tmp_path_factory.mktemp(request.param) / "vocabulary.gguf"
    write_vocabulary(path, KINDS[request.param]())
    model = Model(path, use_extra_bufts=False, vocab_only=True)
    yield model
    model.close()


def test_a_gap_is_between_its_very_texts(model: Model) -> None:
    within = forced_text(model).tokens if model.adds_space_prefix else None
    tokens = infill_tokens(model, InfillPrompt(**GAP), within)
    before, suffix, middle = (model.fim_tokens[name] for name in ("pre", "suf", "mid"))
    assert tokens[0] == before
    at, end = tokens.index(suffix), tokens.index(middle)
    assert tokens[1:at] == model.tokenize("the answer", parse_special=False)
    assert b"".join(map(model.piece, tokens[at + 1 : end])) == b"yes\n<MID>"
    assert b"".join(map(model.piece, tokens[end + 1 :])) == b"is"


@pytest.mark.parametrize("text", ENDS, ids=ascii)
def test_what_is_forced_within_an_answer_is_just_that(model: Model, text: str) -> None:
    tokens = tokens_within(model, forced_text(model), text)
    assert b"".join(map(model.written, tokens)) == text.encode()
    marks = {model.tokenize(mark, parse_special=True)[0] for mark in ("<user>", "<bot>")}
    assert sum(token in marks for token in tokens) == text.count("<")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_gap_is_read_with_its_marks(served: Served) -> None:
    fields = {"input_prefix": "the", "input_suffix": " yes", "temperature": 0, "n_predict": 4}
    answer = await served.post("/infill", **fields)
    within = (
        len(await served.tokenize("the"))
        + len(await served.tokenize("x yes"))
        - len(await served.tokenize("x"))
    )
    assert answer["tokens_evaluated"] == within + 3 + served.adds_bos


def test_a_sound_table_normalizes(tmp_path: Path) -> None:
    """What the check of such tables takes, llama.cpp follows."""
    from appliance.llama.model import Model

    keys = {**unigram().keys, "precompiled_charsmap": charsmap({"ﬁ": "yes", "Ａ": "no"})}
    path = write_vocabulary(tmp_path / "table.gguf", replace(unigram(), keys=keys))
    read_servable_header(path)
    model = Model(path, use_extra_bufts=False, vocab_only=True)
    tokens = model.tokenize("ﬁ Ａ", parse_special=False)
    assert tokens == model.tokenize("yes no", parse_special=False)
    model.close()


def test_a_file_that_does_not_say_how_it_splits(tmp_path: Path) -> None:
    from appliance.llama.model import Model

    path = write_vocabulary(tmp_path / "guess.gguf", without(byte_level(), "pre"))
    model = Model(path, use_extra_bufts=False, vocab_only=True)
    assert model.splits_by_guess
    model.close()
