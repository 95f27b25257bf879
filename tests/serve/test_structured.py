"""Structured output with the real model, through OpenAI's client: a model of novels
writes valid JSON.
"""

from __future__ import annotations

import json
import re

import openai
import pytest
from pydantic import BaseModel, Field

from tests.serve.server import StartServer


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=130)
    tags: list[str] = Field(max_length=2)


def test_structured_answers_through_openais_client(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        messages = [{"role": "user", "content": "Who lived in the old house?"}]
        for seed in range(4):
            parsed = api.chat.completions.parse(
                model=model,
                messages=messages,  # type: ignore[arg-type] # plain dicts, as people write them
                response_format=Person,
                seed=seed,
                temperature=1.5,
                max_tokens=600,
            )
            assert parsed.choices[0].finish_reason == "stop"
            assert isinstance(parsed.choices[0].message.parsed, Person)
        stream = api.chat.completions.create(
            model=model,
            messages=messages,  # type: ignore[arg-type]
            response_format={"type": "json_object"},
            max_tokens=400,
            seed=3,
            stream=True,
        )
        text, reason = "", None
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            reason = chunk.choices[0].finish_reason or reason
        if reason == "stop":
            assert isinstance(json.loads(text), dict)
        else:
            assert (reason, text[0]) == ("length", "{")
        phone = api.completions.create(
            model=model,
            prompt="Call me at ",
            max_tokens=30,
            extra_body={"structured_outputs": {"regex": "[0-9]{3}-[0-9]{4}"}},
        )
        assert re.fullmatch("[0-9]{3}-[0-9]{4}", phone.choices[0].text)
        several = api.completions.create(
            model=model,
            prompt="He said: ",
            n=4,
            seed=1,
            max_tokens=30,
            extra_body={"grammar": 'root ::= "yes" | "no"'},
        )
        assert {choice.text for choice in several.choices} <= {"yes", "no"}
        with pytest.raises(openai.BadRequestError, match="Rule 'nowhere' not found") as refused:
            api.completions.create(
                model=model,
                prompt="x",
                stream=True,
                max_tokens=30,
                extra_body={"grammar": "root ::= nowhere"},
            )
        assert refused.value.param == "grammar"
        plain = api.completions.create(
            model=model, prompt="The old house", max_tokens=5, temperature=0
        )
        assert plain.choices[0].text
