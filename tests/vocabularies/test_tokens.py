"""Tokenizing, and back: every kind of vocabulary, texts of every kind."""

from __future__ import annotations

import itertools

import pytest

from tests.vocabularies.served import Served, piece_bytes

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Of characters that each kind has tokens for.
PLAIN = (
    "",
    "the",
    " the",
    "the answer is yes",
    " the  answer   is ",
    "  ",
    "    yes",
    "yes    ",
    "the\nanswer\n\n",
    "\n",
    " \n the",
    "é",
    " é日本語",
    "Zürich 日本",
    "the<user>answer",
    "<user>",
    "<user> the<bot>  the",
    "<user><bot>",
    "</s>the<s>",
    "a{b}c<0x41>",
    "<unk>",
    "[PAD1]",
)
# Of characters that are written as bytes.
BYTES = (
    "😀",
    " 😀 😀",
    "e\u0301",  # combining
    "👩‍👩‍👧",  # joined
    "\u202e\u200b\ufeff",
    "a\tb\r\nc",
    "\u00a0\u3000",
    "\x01\x7f",
    "a\x00b",
    "\ufffd",
    "\U0010ffff",
    "𝔸",
)


@pytest.mark.parametrize("text", PLAIN, ids=ascii)
@pytest.mark.parametrize("parse_special", [True, False])
async def test_the_tokens_of_a_text_are_that_text(
    served: Served, text: str, parse_special: bool
) -> None:
    await _assert_inverse(served, text, parse_special=parse_special)


@pytest.mark.parametrize("text", BYTES, ids=ascii)
async def test_what_has_no_token_of_its_own_is_written_as_bytes(served: Served, text: str) -> None:
    if served.kind == "spm-without-bytes":
        assert "vocabulary has no token for" in await served.refusal("/tokenize", content=text)
    elif served.kind == "unigram":
        known = {" ", *served.vocabulary.tokens}
        runs = itertools.groupby(text, lambda character: character in known)
        expected = "".join("".join(run) if is_known else "<unk>" for is_known, run in runs)
        assert (
            await served.detokenize(await served.tokenize(f"the{text}yes")) == f"the{expected}yes"
        )
    else:
        await _assert_inverse(served, text, parse_special=True)


async def _assert_inverse(served: Served, text: str, *, parse_special: bool) -> None:
    fields = {"parse_special": parse_special}
    tokens = await served.tokenize(text, **fields)
    answer = await served.post("/tokenize", content=text, with_pieces=True, **fields)
    pieces = [piece_bytes(token["piece"]) for token in answer["tokens"]]
    assert [token["id"] for token in answer["tokens"]] == tokens
    assert b"".join(pieces) == text.encode()
    assert await served.detokenize(tokens) == text


async def test_special_tokens_are_read_where_they_are_asked_for(served: Served) -> None:
    special = [served.vocabulary.id_of(mark) for mark in served.special]
    text = "".join(served.special)
    assert await served.tokenize(text) == special
    plain = await served.tokenize(text, parse_special=False)
    assert not set(special) & set(plain)


async def test_a_text_begins_with_bos_where_the_model_wants_one(served: Served) -> None:
    tokens = await served.tokenize("the answer", add_special=True)
    plain = await served.tokenize("the answer")
    if served.adds_bos:
        bos = served.vocabulary.keys["bos_token_id"]
        assert tokens == [bos, *plain]
        name = served.vocabulary.tokens[int(str(bos))]
        assert await served.detokenize(tokens) == f"{name}the answer"
    else:
        assert tokens == plain


@pytest.mark.parametrize("body", [rb'{"content": "a\ud800b"}', b'{"content": "a\xff"}'])
async def test_half_a_character_is_refused(served: Served, body: bytes) -> None:
    response = await served.http.post(
        "/tokenize", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400, response.text


async def test_ids_beyond_the_vocabulary_are_refused(served: Served) -> None:
    most = len(served.vocabulary.tokens) - 1
    for token in (most + 1, 2**31 - 1):
        words = f"Token ids must be between 0 and {most} (got {token})"
        assert words in await served.refusal("/detokenize", tokens=[1, token])
        assert words in await served.refusal("/v1/completions", prompt=[1, token])
    assert isinstance(await served.detokenize(list(range(most + 1))), str)
