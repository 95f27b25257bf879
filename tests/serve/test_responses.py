"""/v1/responses through OpenAI's client, with the real model."""

from __future__ import annotations

import asyncio

import openai
from pydantic import BaseModel, Field

from tests.serve.server import StartServer


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=130)


def test_responses_through_openais_clients(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        endless = {"ignore_eos": True}
        answer = api.responses.create(
            model=model,
            input="Once upon a time",
            max_output_tokens=12,
            temperature=0,
            extra_body=endless,
        )
        assert (answer.status, answer.usage is not None) == ("incomplete", True)
        with api.responses.stream(
            model=model,
            input="Once upon a time",
            max_output_tokens=12,
            temperature=0,
            extra_body=endless,
        ) as stream:
            text = "".join(
                event.delta for event in stream if event.type == "response.output_text.delta"
            )
        assert text == answer.output_text
        parsed = api.responses.parse(
            model=model, input="Who was it?", text_format=Person, max_output_tokens=400
        )
        assert isinstance(parsed.output_parsed, Person)
        # A conversation goes on with the answer's own items.
        items = [*answer.output, {"role": "user", "content": "And then?"}]
        second = api.responses.create(
            model=model, input=items, max_output_tokens=5, extra_body=endless
        )  # type: ignore[arg-type] # as people do
        assert second.usage is not None
        assert second.usage.output_tokens == 5

    async def talk() -> str:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0
        ) as api:
            form = {"format": {"type": "json_object"}}
            stream = await api.responses.create(
                model=model,
                input="Who was it?",
                text=form,  # type: ignore[arg-type] # a plain dict, as people write it
                max_output_tokens=60,
                stream=True,
            )
            return "".join(
                [
                    event.delta
                    async for event in stream
                    if event.type == "response.output_text.delta"
                ]
            )

    assert asyncio.run(talk()).startswith("{")
