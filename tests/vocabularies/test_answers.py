"""What is read off an answer, token by token and character by character."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vocabularies.served import Served, token_bytes

pytestmark = pytest.mark.asyncio(loop_scope="session")

GREEDY: dict[str, Any] = {"temperature": 0, "cache_prompt": False}
FORCED = "the answer is yes 日本  Zürich"
SURE = 100  # a bias that nothing outweighs


def forced(text: str) -> dict[str, Any]:
    return {"structured_outputs": {"choice": [text]}, "max_tokens": 200}


# --- stop strings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "stop",
    ["swe", "answer is", " is yes", "日", "本", "日本  Z", "ü", "  ", "the", "h", "Zürich"],
)
async def test_a_stop_string_ends_the_answer_before_it(served: Served, stop: str) -> None:
    if not served.has_end:  # nothing can be forced
        return
    done = await served.complete(**forced(FORCED), stop=[stop])
    assert done["text"] == FORCED[: FORCED.find(stop)]
    assert done["finish_reason"] == "stop"


async def test_a_stop_string_within_whatever_is_written(served: Served) -> None:
    whole = await served.complete(max_tokens=24, ignore_eos=True, **GREEDY)
    text = whole["text"]
    assert whole["finish_reason"] == "length"
    for at in range(0, len(text) - 3, 3):
        stop = text[at : at + 3]
        if "\ufffd" in stop:
            continue
        cut = await served.complete(max_tokens=24, ignore_eos=True, stop=[stop], **GREEDY)
        assert cut["text"] == text[: text.find(stop)]


async def test_a_stop_string_of_bytes(served: Served) -> None:
    if served.has_bytes and served.has_end:
        done = await served.complete(**forced("a😀b"), stop=["😀"])
        assert (done["text"], done["finish_reason"]) == ("a", "stop")


# --- characters -----------------------------------------------------------------------


async def test_a_stream_has_whole_characters_only(served: Served) -> None:
    if not served.has_end:  # nothing can be forced
        return
    text = "日本 é 😀👩‍👧!" if served.has_bytes else "日本 é 語ЖΩ!"
    body = {"prompt": "the", "stream": True, **forced(text)}
    response = await served.http.post("/v1/completions", json=body)
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    deltas = [json.loads(line)["choices"][0]["text"] for line in lines if line.startswith("{")]
    assert "".join(deltas) == text
    assert not any("\ufffd" in delta for delta in deltas)


async def test_what_is_left_of_a_character_at_the_end(served: Served) -> None:
    if not served.has_bytes:
        return
    bias = {served.byte_token(0xE6): SURE}
    done = await served.complete(max_tokens=2, logit_bias=bias, logprobs=0, **GREEDY)
    assert (done["text"], done["finish_reason"]) == ("\ufffd\ufffd", "length")
    assert done["logprobs"]["tokens"] == [r"bytes:\xe6"] * 2
    assert done["logprobs"]["text_offset"] == [0, 0]


# --- where an answer begins -----------------------------------------------------------


async def test_an_answer_begins_without_the_vocabularys_own_space(served: Served) -> None:
    """As the model's own software has it; what goes on keeps its space."""
    word = " yes" if served.vocabulary.model in ("gpt2", "rwkv") else "▁yes"
    token = served.vocabulary.id_of(word if served.vocabulary.model == "rwkv" else _as_bpe(word))
    bias = {"logit_bias": {token: SURE}, "max_tokens": 2, **GREEDY}
    said = await served.chat(("user", "the"), logprobs=True, top_logprobs=2, **bias)
    expected = "yes yes" if served.adds_space else " yes yes"
    assert said["message"]["content"] == expected
    tokens = said["logprobs"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in tokens) == expected.encode()
    assert "".join(token["token"] for token in tokens) == expected
    going_on = await served.chat(("user", "the"), ("assistant", "the"), **bias)
    assert going_on["message"]["content"] == " yes yes"
    assert (await served.complete(**bias))["text"] == " yes yes"


def _as_bpe(word: str) -> str:
    return word.replace(" ", "Ġ")


async def test_an_answer_goes_on_in_the_middle_of_a_word(served: Served) -> None:
    messages = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "the ans"}]
    rendered = await served.post("/apply-template", messages=messages)
    assert rendered["prompt"] == "<user>the<bot>the ans"
    prompt = await served.tokenize(rendered["prompt"], add_special=True)
    going_on = await served.chat(
        ("user", "the"), ("assistant", "the ans"), max_tokens=8, ignore_eos=True, **GREEDY
    )
    same = await served.complete(prompt, max_tokens=8, ignore_eos=True, **GREEDY)
    assert going_on["usage"]["prompt_tokens"] == len(prompt)
    assert going_on["message"]["content"] == same["text"]
    if served.has_end:
        form = forced("wer is yes")
        said = await served.chat(("user", "the"), ("assistant", "the ans"), **form)
        assert said["message"]["content"] == "wer is yes"


# --- log-probabilities ----------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["the answer is yes", " the  Zürich\n", "日本é", "x<user>y"])
async def test_an_echo_is_the_prompt_with_its_offsets(served: Served, prompt: str) -> None:
    done = await served.complete(prompt, echo=True, logprobs=3, max_tokens=0)
    assert done["text"] == prompt
    columns = done["logprobs"]
    pieces = [token_bytes(name) for name in columns["tokens"]]
    if served.adds_bos:
        bos = served.vocabulary.tokens[int(str(served.vocabulary.keys["bos_token_id"]))]
        assert pieces[0] == bos.encode()
        pieces[0] = b""
    _assert_offsets(prompt, pieces, columns["text_offset"])
    assert columns["token_logprobs"][0] is None
    for name, logprob, top in list(
        zip(columns["tokens"], columns["token_logprobs"], columns["top_logprobs"], strict=True)
    )[1:]:
        assert top[name] == logprob <= max(top.values())
    plain = await served.complete(prompt, echo=True, max_tokens=0)
    assert plain["text"] == prompt


async def test_an_echo_goes_on_into_the_answer(served: Served) -> None:
    prompt = "the answer"
    done = await served.complete(
        prompt, echo=True, logprobs=0, max_tokens=8, ignore_eos=True, **GREEDY
    )
    alone = await served.complete(prompt, max_tokens=8, logprobs=0, ignore_eos=True, **GREEDY)
    assert done["text"] == prompt + alone["text"]
    offsets = done["logprobs"]["text_offset"]
    assert offsets[-8:] == [len(prompt) + at for at in alone["logprobs"]["text_offset"]]


async def test_an_echo_of_tokens_is_their_text(served: Served) -> None:
    tokens = await served.tokenize("the answer is")
    for fields in ({}, {"logprobs": 0}):
        done = await served.complete(tokens, echo=True, max_tokens=0, **fields)
        assert done["text"] == "the answer is"


async def test_likely_tokens_are_their_bytes(served: Served) -> None:
    said = await served.chat(
        ("user", "the"), logprobs=True, top_logprobs=20, max_tokens=12, ignore_eos=True, **GREEDY
    )
    tokens = said["logprobs"]["content"]
    assert len(tokens) == 12
    written = b"".join(bytes(token["bytes"] or ()) for token in tokens)
    assert written.decode("utf-8", errors="replace") == said["message"]["content"]
    for token in tokens:
        assert len(token["top_logprobs"]) == 20
        for likely in (token, *token["top_logprobs"]):
            if likely["bytes"] is not None:
                text = bytes(likely["bytes"]).decode("utf-8", errors="backslashreplace")
                assert likely["token"] == text
            else:
                assert likely["token"], "a special token has a name"


def _assert_offsets(text: str, pieces: list[bytes], offsets: list[int]) -> None:
    assert b"".join(pieces) == text.encode()
    before = b""
    for piece, offset in zip(pieces, offsets, strict=True):
        assert offset == len(before.decode("utf-8", errors="ignore"))
        before += piece


# --- bias, ends, drafts ---------------------------------------------------------------


async def test_a_bias_forces_and_forbids(served: Served) -> None:
    token = (await served.tokenize("!"))[-1]
    done = await served.complete(max_tokens=3, logit_bias={token: SURE}, **GREEDY)
    assert done["text"] == "!!!"
    free = await served.complete(max_tokens=1, logprobs=5, ignore_eos=True, **GREEDY)
    [likely] = (tokens for tokens in free["logprobs"]["top_logprobs"])
    [first] = free["logprobs"]["tokens"]
    assert likely[first] == max(likely.values())


async def test_a_bias_by_text_is_one_of_its_tokens(served: Served) -> None:
    token = (await served.tokenize("日本"))[-1]
    by_text = await served.complete(max_tokens=3, logit_bias=[["日本", SURE]], **GREEDY)
    tokens = await served.tokenize("日本")
    by_id = await served.complete(
        max_tokens=3, logit_bias=[[one, SURE] for one in tokens], **GREEDY
    )
    assert by_text["text"] == by_id["text"]
    assert set(by_text["text"]) <= set(" 日本")
    never = await served.complete(
        max_tokens=20, logit_bias=[["日本", False]], logprobs=5, ignore_eos=True, **GREEDY
    )
    assert served.vocabulary.tokens[token] not in never["text"]
    assert await served.refusal("/v1/completions", prompt="the", logit_bias=[["日本", True]])


async def test_drafts_from_the_prompt_change_nothing(served: Served) -> None:
    """A text that repeats is drafted; what is forced comes out as it is."""
    prompt = f"{FORCED} {FORCED} {FORCED} "
    if served.has_end:
        done = await served.complete(prompt, **forced(f"{FORCED} {FORCED}"))
        assert done["text"] == f"{FORCED} {FORCED}"
    bias = dict.fromkeys(await served.tokenize("the answer is yes"), 8)
    texts = {
        (await served.complete(prompt, max_tokens=40, logit_bias=bias, ignore_eos=True, **GREEDY))[
            "text"
        ]
        for _ in range(2)
    }
    assert len(texts) == 1


async def test_every_end_ends_an_answer_and_can_be_ignored(served: Served) -> None:
    names = ("</s>", "<eos>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>")
    ends = [served.vocabulary.id_of(name) for name in names if name in served.vocabulary.tokens]
    assert len(ends) == {"no-end": 0, "several-ends": 3}.get(served.kind, 1)
    for end in ends:
        done = await served.complete(max_tokens=5, logit_bias={end: SURE}, **GREEDY)
        assert (done["text"], done["finish_reason"]) == ("", "stop")
    guess = 11  # llama.cpp's for BPE; here the byte 0x0B
    if served.kind == "no-end":
        done = await served.complete(max_tokens=5, logit_bias={guess: SURE}, **GREEDY)
        assert (done["text"], done["finish_reason"]) == ("\x0b" * 5, "length")
    on = await served.complete(
        max_tokens=40, logit_bias=dict.fromkeys(ends, SURE), ignore_eos=True, **GREEDY
    )
    assert on["finish_reason"] == "length"
    assert on["usage"]["completion_tokens"] == 40


async def test_padding_is_no_text_and_has_a_name(served: Served) -> None:
    if served.kind != "padded":
        return
    token = served.vocabulary.id_of("[PAD3]")
    done = await served.complete(max_tokens=2, logit_bias={token: SURE}, logprobs=0, **GREEDY)
    assert (done["text"], done["finish_reason"]) == ("", "length")
    assert done["logprobs"]["tokens"] == ["[PAD3]"] * 2
