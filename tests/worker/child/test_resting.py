"""How long a worker waits between steps, and what ends the wait."""

from __future__ import annotations

import queue

from appliance.worker.child.resting import Resting


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Inbox(queue.SimpleQueue[str]):
    """Nothing comes in: each wait takes its whole time on `clock`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def get(self, block: bool = True, timeout: float | None = None) -> str:
        self.clock.now_s += timeout or 0.0
        raise queue.Empty


def test_at_full_power_there_is_no_rest() -> None:
    resting = Resting(Clock())
    resting.note_step(0.2)

    assert resting.is_over
    assert resting.busy_s == 0.2


def test_a_rest_makes_a_step_the_share_of_its_time() -> None:
    clock = Clock()
    resting = Resting(clock)
    resting.share = 0.25
    resting.note_step(0.2)
    assert not resting.is_over

    assert resting.wait(Inbox(clock)) is None
    assert resting.is_over
    assert round(clock.now_s, 9) == 0.6
    assert round(resting.busy_s, 9) == 0.8


def test_what_comes_in_is_taken_at_once_and_the_rest_goes_on() -> None:
    clock, inbox = Clock(), queue.SimpleQueue[str]()
    resting = Resting(clock)
    resting.share = 0.5
    resting.note_step(3600.0)
    inbox.put("cancel")

    assert resting.wait(inbox) == "cancel"
    assert not resting.is_over
    clock.now_s = 4000.0
    assert resting.wait(inbox) is None
    assert resting.is_over
