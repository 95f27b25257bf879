"""SIGHUP is kept until somebody is told of it, and ends what its terminal ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from appliance.cli.network.hangups import Hangups, hold_hangups


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back; a SIGTERM raises `Ended`."""

    def end(*_: object) -> None:
        raise Ended

    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started with
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Ended(Exception):
    pass


class Terminal:
    def __init__(self) -> None:
        self.is_there = True

    def __call__(self) -> bool:
        return self.is_there


def hang_up() -> None:
    signal.raise_signal(signal.SIGHUP)


def test_those_that_came_before_are_told_of_once_and_later_ones_each() -> None:
    told: list[str] = []
    hangups = Hangups(lambda: False)
    signal.signal(signal.SIGHUP, hangups)
    hang_up()
    hang_up()
    with hangups.told_to(lambda: told.append("hangup")):
        assert len(told) == 1
        hang_up()
        hang_up()
        assert len(told) == 3
    hang_up()  # while the server ends
    assert len(told) == 3
    with hangups.told_to(lambda: told.append("hangup")):
        assert len(told) == 4


def test_it_is_held_once() -> None:
    hangups = hold_hangups()
    assert signal.getsignal(signal.SIGHUP) is hangups
    assert hold_hangups() is hangups


def test_a_terminal_that_is_closed_ends_the_process() -> None:
    terminal = Terminal()
    signal.signal(signal.SIGHUP, Hangups(terminal))
    hang_up()  # somebody's kill -HUP
    terminal.is_there = False
    with pytest.raises(Ended):
        hang_up()


def test_what_was_started_to_outlive_its_terminal_does() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` leaves it
    terminal = Terminal()
    signal.signal(signal.SIGHUP, Hangups(terminal))
    terminal.is_there = False
    hang_up()


def test_without_a_terminal_from_the_start_none_is_missed() -> None:
    terminal = Terminal()
    terminal.is_there = False
    signal.signal(signal.SIGHUP, Hangups(terminal))
    hang_up()
