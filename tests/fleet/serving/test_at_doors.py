"""What each door has with one replica."""

from __future__ import annotations

from appliance.fleet.routing import Load
from appliance.fleet.serving.at_doors import AtDoors
from appliance.fleet.serving.wire import AtDoor
from appliance.protocol.questions import DescribeText
from appliance.protocol.requests import EmbedRequest, GenerateRequest, TokenPrompt
from appliance.worker.frames import AskQuestion, Embed, Submit

GENERATE = Submit(0, GenerateRequest(prompt=TokenPrompt((5,) * 300), max_tokens=20))
EMBED = Embed(0, EmbedRequest(inputs=(TokenPrompt((5,) * 40),)))


def test_requests_are_counted_by_door_while_they_are_here() -> None:
    doors = AtDoors()
    with doors.computing(AtDoor("a", 0), GENERATE) as first:
        with doors.computing(AtDoor("a", 0), EMBED), doors.computing(AtDoor("b", 0), GENERATE):
            assert doors.loads() == {"a": Load(2, 340, 20), "b": Load(1, 300, 20)}
        first.began()
        assert doors.loads() == {"a": Load(1, 0, 20)}
    assert doors.loads() == {}


def test_a_question_is_a_request_without_tokens() -> None:
    doors = AtDoors()
    with doors.computing(AtDoor("a", 0), AskQuestion(0, DescribeText())):
        assert doors.loads() == {"a": Load(1, 0, 0)}


def test_what_waits_at_doors_is_believed_for_half_a_minute() -> None:
    now_s = 0.0
    doors = AtDoors(lambda: now_s)
    for door, num in (("a", 700), ("b", 50), ("a", 600)):
        with doors.computing(AtDoor(door, num), GENERATE):
            pass
        now_s += 10.0
    assert doors.num_waiting_tokens == 650
    now_s = 45.0
    assert doors.num_waiting_tokens == 600
    now_s = 60.0
    assert doors.num_waiting_tokens == 0
