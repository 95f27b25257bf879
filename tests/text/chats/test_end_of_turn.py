"""What ends an answer beside the vocabulary's end tokens."""

from __future__ import annotations

import datetime

import pytest

from appliance.text.chat_template import ChatTemplate
from appliance.text.chats.end_of_turn import end_of_turn, text_behind_answers

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def behind(source: str) -> str:
    template = ChatTemplate(source, special={}, now=lambda: datetime.datetime(2026, 11, 29))  # noqa: DTZ001 - as local
    return text_behind_answers(template)


def ending(text: str, special: dict[str, int], *, marks: str = "", is_given: bool = False) -> str:
    """With a vocabulary of words, of which 1 ends answers."""
    names = {token: name for name, token in special.items()}

    def tokenize(text: str) -> list[int]:
        found = sorted((text.find(name), token) for name, token in special.items() if name in text)
        return [token for _, token in found] or [100]

    return end_of_turn(
        text,
        tokenize=tokenize,
        end_tokens={1},
        name=lambda token: names.get(token, ""),
        marks=[marks],
        is_given=is_given,
    )


def test_what_stands_behind_an_answer() -> None:
    assert behind(CHATML) == "<|im_end|>\n<|im_start|>user\n"
    assert behind("{{ raise_exception('no') }}") == ""
    assert behind("{{ messages | length }}") == ""
    assert behind(CHATML.replace("content", "content | trim | upper")) == ""


@pytest.mark.parametrize(
    ("text", "special", "end"),
    [
        ("<|im_end|>\n<|im_start|>user\n", {"<|im_end|>": 1}, ""),  # it ends answers anyway
        ("<|im_end|>\n<|im_start|>user\n", {}, "<|im_end|>"),  # only letters
        ("<|im_end|>\n<|im_start|>user\n", {"<|im_end|>": 2}, "<|im_end|>"),  # a token that is none
        ("\n<|EOT|>\n### Instruction:\n", {}, "\n<|EOT|>"),
        ("</s>\nUSER: ", {"</s>": 1}, ""),
        ("", {}, ""),
    ],
)
def test_an_end_that_no_token_makes(text: str, special: dict[str, int], end: str) -> None:
    assert ending(text, special) == end


def test_words_end_an_answer_only_if_a_user_has_set_the_template() -> None:
    assert ending("\n\nUser: ", {}) == ""
    assert ending("\n\nUser: ", {}, is_given=True) == "\n\nUser:"


def test_what_means_something_within_answers_does_not_end_them() -> None:
    text = "<|end|><|start|>user"
    assert ending(text, {"<|end|>": 2, "<|start|>": 3}, marks="<|end|><|start|>assistant") == ""
