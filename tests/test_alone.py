"""Who runs beside whom, where a run has several processes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.alone import company

TIMEOUT_S = 60.0


def run_all(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert [thread for thread in threads if thread.is_alive()] == []


def test_tests_run_beside_each_other() -> None:
    both_are_in = threading.Barrier(2, timeout=TIMEOUT_S)
    met: list[int] = []

    def one() -> None:
        with company(alone=False):
            met.append(both_are_in.wait())

    run_all(one, one)
    assert sorted(met) == [0, 1]


def test_nothing_runs_beside_one_that_is_alone() -> None:
    lock = threading.Lock()
    log: list[tuple[str, int, bool]] = []

    def works(number: int, *, alone: bool) -> Callable[[], None]:
        def run() -> None:
            for _ in range(50):
                with company(alone=alone):
                    with lock:
                        log.append(("in", number, alone))
                    with lock:
                        log.append(("out", number, alone))

        return run

    run_all(*(works(number, alone=number % 2 == 0) for number in range(4)))
    assert len(log) == 2 * 4 * 50
    for at, (what, number, alone) in enumerate(log):
        if alone and what == "in":
            assert log[at + 1] == ("out", number, True)
            num_in = sum(1 if what == "in" else -1 for what, _, _ in log[:at])
            assert num_in == 0
