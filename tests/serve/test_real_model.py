"""Whole answers of a model that understands: what is asked for is what comes.

At temperature 0 and on questions that it answers surely (where a whole text is
compared, the best token is ahead of the next by a nat), so that no kernel's rounding
changes what is looked at.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

QUESTION = {"role": "user", "content": "What is the capital of Japan?"}
ANSWER = "The capital of Japan is Tokyo."
STORY = (
    "Marta opened the small library at nine. A boy returned a blue book about whales. He asked "
    "for another one about the deep sea. Marta gave him a green book with a silver spine."
)
ADA = "Ada is 36 years old and lives in London. Give her name, age and city as JSON."
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
SURE = {
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Russia?": "Moscow",
    "What is the capital of England?": "London",
    "What is the opposite of black?": "white",
    "What is the opposite of day?": "night",
}


def ask(api: openai.OpenAI, *messages: dict[str, str], **parameters: Any) -> Any:
    """The completion, at temperature 0."""
    return api.chat.completions.create(
        model="real",
        messages=messages,  # type: ignore[arg-type] # plain dicts, as people write them
        temperature=0,
        **parameters,
    )


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_a_question_is_answered_and_the_answer_ends_by_itself(real_api: openai.OpenAI) -> None:
    answer = ask(real_api, QUESTION)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (37, 8)


def test_a_streamed_answer_is_the_same(real_api: openai.OpenAI) -> None:
    deltas = [chunk.choices[0].delta.content for chunk in ask(real_api, QUESTION, stream=True)]
    assert "".join(delta or "" for delta in deltas) == ANSWER
    assert len([delta for delta in deltas if delta]) > 1


@pytest.mark.parametrize(
    ("stop", "text"),
    [("Tokyo", "The capital of Japan is "), (["x", " is"], "The capital of Japan"), ("?", ANSWER)],
)
def test_a_stop_string_ends_the_answer_before_it(
    real_api: openai.OpenAI, stop: str | list[str], text: str
) -> None:
    [choice] = ask(real_api, QUESTION, stop=stop).choices
    assert (choice.message.content, choice.finish_reason) == (text, "stop")


def test_a_form_is_filled_with_what_was_said(real_api: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    [choice] = ask(real_api, user(ADA), response_format=form, max_tokens=80).choices
    assert choice.finish_reason == "stop"
    assert json.loads(choice.message.content) == {"name": "Ada", "age": 36, "city": "London"}


def test_a_second_turn_takes_up_the_first(real_api: openai.OpenAI) -> None:
    said = {"role": "assistant", "content": ANSWER}
    asked = user("And in which country is that city?")
    second = ask(real_api, QUESTION, said, asked, max_tokens=24)
    assert "Japan" in second.choices[0].message.content


def test_several_at_once_each_get_their_own_answer(real_api: openai.OpenAI) -> None:
    with ThreadPoolExecutor(len(SURE)) as pool:
        asked = {
            question: pool.submit(ask, real_api, user(question), max_tokens=16) for question in SURE
        }
        for question, answer in asked.items():
            assert SURE[question] in answer.result().choices[0].message.content, question


def test_a_text_is_found_in_what_was_read_and_not_read_again_in_the_next_turn(
    real_api: openai.OpenAI,
) -> None:
    asked = user(f"{STORY}\n\nWho opened the library?")
    first = ask(real_api, asked, max_tokens=24)
    text = first.choices[0].message.content
    assert "Marta" in text
    said = {"role": "assistant", "content": text}
    second = ask(real_api, asked, said, user("Thank you."), max_tokens=1)
    # without exact rows, what repeats itself takes over whole blocks alone: decision 28
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens // 64 * 64 > 0


def test_a_copy_of_the_prompt_is_exact_however_it_was_drafted(real_api: openai.OpenAI) -> None:
    asked = user(f"Repeat this text word by word:\n\n{STORY}")
    for _ in range(2):  # the second time, the whole answer may be drafted from the first
        [choice] = ask(real_api, asked, max_tokens=60).choices
        assert (choice.message.content, choice.finish_reason) == (STORY, "stop")
