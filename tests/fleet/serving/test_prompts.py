"""What a prompt begins with, before anybody has tokenized it."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.fleet.routing import BLOCK_TOKENS, fingerprints
from appliance.fleet.serving.prompts import BYTES_PER_TOKEN, prompt_prints
from appliance.protocol.requests import (
    ChatPrompt,
    InfillPrompt,
    MixedPrompt,
    SourceFile,
    TextPrompt,
    TokenPrompt,
)

BLOCK = BLOCK_TOKENS * BYTES_PER_TOKEN


def turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def test_a_block_is_256_bytes_and_what_is_left_has_none() -> None:
    assert [len(prompt_prints(TextPrompt("x" * num))) for num in (255, 256, 511, 512)] == [
        0,
        1,
        1,
        2,
    ]


def test_the_next_turn_begins_with_what_this_one_is() -> None:
    first = ChatPrompt(messages=[turn("system", "s" * 300), turn("user", "a" * 500)])
    second = ChatPrompt(messages=[*first.messages, turn("assistant", "b" * 90), turn("user", "c")])
    now, then = prompt_prints(first), prompt_prints(second)
    assert len(now) == 3
    assert then[:3] == now


@pytest.mark.parametrize(
    "other",
    [
        ChatPrompt(messages=[turn("system", "t" + "s" * 599)]),
        ChatPrompt(messages=[turn("system", "s" * 600)], tools=[{"function": {"name": "f"}}]),
        ChatPrompt(messages=[turn("system", "s" * 600)], arguments={"enable_thinking": False}),
    ],
)
def test_what_a_template_writes_first_tells_chats_apart(other: ChatPrompt) -> None:
    chat = ChatPrompt(messages=[turn("system", "s" * 600)])
    assert prompt_prints(chat)[0] != prompt_prints(other)[0]


def test_the_order_of_an_objects_keys_tells_nothing_apart() -> None:
    one = ChatPrompt(messages=[{"role": "user", "content": "x" * 600}])
    other = ChatPrompt(messages=[{"content": "x" * 600, "role": "user"}])
    assert prompt_prints(one) == prompt_prints(other)


def test_token_ids_are_known_by_themselves() -> None:
    tokens = [*range(200)]
    assert prompt_prints(TokenPrompt(tokens)) == fingerprints(tokens)


def test_mixed_prompts_and_gaps_begin_alike() -> None:
    mixed = prompt_prints(MixedPrompt(["a" * 256, [1, 2], "b" * 300]))
    assert mixed[:1] == prompt_prints(TextPrompt("a" * 256))
    files = [SourceFile("f.py", "x" * 600)]
    one = InfillPrompt(prefix="def f(", suffix="return 1", files=files)
    other = InfillPrompt(prefix="def g(", suffix="return 1", files=files)
    assert prompt_prints(one)[:2] == prompt_prints(other)[:2]


def test_a_prompt_of_400_kilobytes_has_a_print_for_each_block() -> None:
    text = "e" * 400_000
    assert len(prompt_prints(TextPrompt(text))) == len(text) // BLOCK
