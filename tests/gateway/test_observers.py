"""What observers of requests are notified of, and for whom."""

from __future__ import annotations

import pytest

from appliance.errors import QueueFull, ShuttingDown
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.observers import ObservableRequest, ObservedRequest
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.events import AskResult, EmbedResult, Message, Started
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import EmbedRequest, GenerateRequest, TextPrompt
from tests.api.scripted_client import ANSWER, ScriptedClient

ALICE = Caller("alice")
REQUEST = GenerateRequest(prompt=TextPrompt("Once"))


class Recorder:
    """Writes down who asked whom, how many messages came, and the outcome."""

    def __init__(self) -> None:
        self.started_for: list[tuple[str, str]] = []
        self.ended: list[tuple[list[Message], str]] = []

    def started(
        self, caller: Caller, model_id: str, _request: ObservableRequest, /
    ) -> ObservedRequest:
        self.started_for.append((caller.id, model_id))
        return _Recorded(self)


class _Recorded:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._messages: list[Message] = []

    def event(self, message: Message, /) -> None:
        self._messages.append(message)

    def ended(self, outcome: str, /) -> None:
        self._recorder.ended.append((self._messages, outcome))


def observed_gateway(client: ScriptedClient) -> tuple[Gateway, ServedModel, Recorder]:
    recorder = Recorder()
    model = ServedModel(id="novels", client=client, created=1)
    return Gateway(Router([model]), Admission(), observers=[recorder]), model, recorder


async def test_an_observer_follows_each_choice_to_its_end() -> None:
    gateway, model, recorder = observed_gateway(ScriptedClient(*ANSWER))
    async with gateway.generate_choices(ALICE, model, [REQUEST], 2) as events:
        async for _ in events:
            pass
    assert recorder.started_for == [("alice", "novels")] * 2
    assert recorder.ended == [(list(ANSWER), "stop")] * 2


async def test_refusals_failures_and_cancellations_are_outcomes() -> None:
    gateway, model, recorder = observed_gateway(ScriptedClient(Started(1, 5), QueueFull("full")))
    async with gateway.generate(ALICE, model, REQUEST) as events:
        with pytest.raises(QueueFull):
            async for _ in events:
                pass
    async with gateway.generate(ALICE, model, REQUEST) as events:
        await anext(events)
    gateway.begin_drain()
    with pytest.raises(ShuttingDown):
        async with gateway.generate(ALICE, model, REQUEST):
            pass
    assert recorder.ended == [
        ([Started(1, 5)], "queue_full"),
        ([Started(1, 5)], "cancelled"),
        ([], "shutting_down"),
    ]


async def test_vectors_and_questions_end_in_one_result() -> None:
    client = ScriptedClient()
    client.embedded = EmbedResult(request_id=1, values=b"", num_values=0, num_tokens=3)
    gateway, model, recorder = observed_gateway(client)
    vectors = await gateway.embed(ALICE, model, EmbedRequest([TextPrompt("Once")]))
    answer = await gateway.ask(ALICE, model, Tokenize(TextPrompt("Once")))
    assert isinstance(answer, AskResult)
    assert recorder.ended == [([vectors], "embedded"), ([answer], "completed")]
