"""Whoever waits for a worker is told when it has no more to do for a request, read or not."""

from __future__ import annotations

from appliance.errors import DecodeFailed, WorkerLost
from appliance.protocol.events import Delta, Failed, Finished, FinishReason, Started, Usage
from appliance.worker.in_flight import InFlight

USAGE = Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1)


def test_it_is_told_once_with_the_last_event_and_before_it_is_read() -> None:
    told: list[str] = []
    in_flight = InFlight()
    done, _ = in_flight.open(lambda: told.append("done"))
    failed, _ = in_flight.open(lambda: told.append("failed"))
    in_flight.deliver(Started(done, 1))
    in_flight.deliver(Delta(request_id=done, text="a", num_tokens=1))
    assert told == []
    in_flight.deliver(Finished(request_id=done, reason=FinishReason.STOP, usage=USAGE))
    in_flight.deliver(Failed(failed, DecodeFailed("broken").record()))
    assert told == ["done", "failed"]
    in_flight.close(done)
    in_flight.close(failed)
    assert told == ["done", "failed"]


def test_it_is_told_when_a_reader_leaves_or_the_worker_is_lost() -> None:
    told: list[str] = []
    in_flight = InFlight()
    left, _ = in_flight.open(lambda: told.append("left"))
    in_flight.open(lambda: told.append("lost"))
    in_flight.close(left)
    assert told == ["left"]
    in_flight.end_all(lambda: WorkerLost("gone"))
    assert told == ["left", "lost"]
