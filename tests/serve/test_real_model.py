"""Whole answers of a model that understands: what is asked for is what comes.

At temperature 0 and on questions that it answers surely (the best token is ahead of the
next by a nat), so that no kernel's rounding changes the text.
"""

from __future__ import annotations

import openai

QUESTION = {"role": "user", "content": "What is the capital of Japan?"}
ANSWER = "The capital of Japan is Tokyo."
STORY = (
    "Marta opened the small library at nine. A boy returned a blue book about whales. He asked "
    "for another one about the deep sea. Marta gave him a green book with a silver spine."
)


def test_a_question_is_answered_and_the_answer_ends_by_itself(real_api: openai.OpenAI) -> None:
    answer = real_api.chat.completions.create(model="real", messages=[QUESTION], temperature=0)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (37, 8)
