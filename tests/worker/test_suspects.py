"""Which requests are refused after a worker died, and how long it takes to replace one."""

from __future__ import annotations

import signal

import msgspec
import pytest

from appliance.errors import RequestAtFault
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.health import Heartbeat
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import EmbedRequest, Grammar, TextPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.crash import Crash
from appliance.worker.deaths import Deaths
from appliance.worker.frames import AskQuestion, Embed, Submit
from appliance.worker.patience import Patience
from appliance.worker.suspects import REFUSED_FOR_S, Sent, Suspects, may_be_a_requests_fault
from tests.worker.running import text

DEADLY: Sent = Submit(1, text("x", SamplingParams(seed=1)))
SAME: Sent = Submit(7, text("x", SamplingParams(seed=2)))
OTHER: Sent = Submit(2, text("y"))
QUESTION: Sent = AskQuestion(3, Tokenize(TextPrompt("x")))
VECTORS: Sent = Embed(4, EmbedRequest([TextPrompt("x")]))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def refuses(suspects: Suspects, sent: Sent) -> bool:
    try:
        suspects.check(sent)
    except RequestAtFault:
        return True
    return False


@pytest.mark.parametrize("sent", [DEADLY, QUESTION, VECTORS], ids=["text", "question", "embed"])
def test_whoever_was_there_twice_is_refused(sent: Sent) -> None:
    suspects = Suspects()
    suspects.note_death([sent, sent])
    assert not refuses(suspects, sent)
    suspects.note_death([sent, OTHER])
    assert refuses(suspects, sent)
    assert not refuses(suspects, OTHER)


def test_what_is_the_same_prompt_in_the_same_form_is_the_same_request() -> None:
    suspects = Suspects()
    suspects.note_death([DEADLY])
    suspects.note_death([SAME])
    assert refuses(suspects, DEADLY)
    assert refuses(suspects, Submit(9, text("x", SamplingParams())))
    assert refuses(suspects, Submit(9, text("x", SamplingParams(temperature=0.5), max_tokens=3)))
    in_a_form = msgspec.structs.replace(
        text("x"), grammar=Grammar(GrammarKind.REGEX, "x+", "structured_outputs")
    )
    assert not refuses(suspects, Submit(9, in_a_form))


def test_whoever_ends_well_in_between_is_cleared() -> None:
    suspects = Suspects()
    suspects.note_death([DEADLY, OTHER])
    suspects.note_end(OTHER)
    suspects.note_death([DEADLY, OTHER])
    assert (refuses(suspects, DEADLY), refuses(suspects, OTHER)) == (True, False)


def test_after_a_while_it_gets_one_more_chance() -> None:
    clock = Clock()
    suspects = Suspects(clock)
    suspects.note_death([DEADLY])
    suspects.note_death([DEADLY])
    clock.now_s = REFUSED_FOR_S - 10
    with pytest.raises(RequestAtFault, match=r"in progress 2 times .* refused for 10 s more"):
        suspects.check(DEADLY)
    clock.now_s = REFUSED_FOR_S + 1
    assert not refuses(suspects, DEADLY)
    suspects.note_death([DEADLY])
    assert refuses(suspects, DEADLY)


def test_another_cause_clears_all_and_only_the_latest_are_remembered() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.note_death([DEADLY])
    for number in range(1024):
        suspects.note_death([Submit(1, text(f"{number}"))])
    assert not refuses(suspects, DEADLY)
    for _ in range(2):
        suspects.note_death([DEADLY])
    suspects.forget()
    assert not refuses(suspects, DEADLY)


@pytest.mark.parametrize(
    ("status", "blamed"),
    [
        *((status, True) for status in (-signal.SIGSEGV, -signal.SIGABRT, 1)),
        *((status, False) for status in (0, -signal.SIGKILL, -signal.SIGTERM, -40)),
    ],
)
def test_only_a_process_that_broke_blames_requests(status: int, blamed: bool) -> None:
    assert may_be_a_requests_fault(Crash(status, was_ready=True)) is blamed


def test_one_that_hung_does_so_too() -> None:
    assert may_be_a_requests_fault(None)


def test_only_a_worker_that_dies_by_itself_is_waited_for() -> None:
    clock = Clock()
    deaths = Deaths(Patience(first_backoff_s=0.5, longest_backoff_s=3.0, healthy_s=60.0), clock)
    useless = [deaths.pause_s(was_ready=at % 2 == 0) for at in range(5)]
    assert useless == [0.5, 1.0, 2.0, 3.0, 3.0]
    for _ in range(3):
        deaths.take_up(OTHER)
        assert deaths.pause_s(was_ready=True) == 0, "it had work"
    assert deaths.pause_s(was_ready=True) == 0.5
    clock.now_s += 0.5 + 61.0
    assert deaths.pause_s(was_ready=True) == 0, "it lived long"
    clock.now_s += 61.0
    assert deaths.pause_s(was_ready=False) == 0.5, "it took long to load, and never did"


def test_what_is_in_flight_at_a_death_is_under_suspicion() -> None:
    deaths = Deaths(Patience(), Clock())
    for _ in range(2):
        deaths.take_up(DEADLY)
        deaths.take_up(OTHER)
        deaths.put_down(OTHER.request_id, has_ended=True)
        deaths.take_up(VECTORS)
        deaths.put_down(VECTORS.request_id, has_ended=False)
        deaths.note(Crash(-signal.SIGSEGV, was_ready=True))
    deaths.take_up(OTHER)
    deaths.take_up(VECTORS)
    with pytest.raises(RequestAtFault):
        deaths.take_up(SAME)
    deaths.mended()
    deaths.take_up(SAME)


def test_native_code_that_does_not_return_is_given_up() -> None:
    patience = Patience(silence_s=30.0, step_s=300.0, prepare_s=120.0)
    fine = Heartbeat(num_running=1, num_waiting=0, num_steps=9, num_used_cells=3, step_age_s=299.0)
    hangs = msgspec.structs.replace(fine, step_age_s=301.0)
    compiles = msgspec.structs.replace(fine, tokenize_age_s=121.0)
    assert [patience.why_given_up(at, None) for at in (29.0, 31.0)] == [
        None,
        "it was silent for 31 s",
    ]
    assert [patience.why_given_up(1.0, beat) for beat in (fine, hangs, compiles)] == [
        None,
        "one step took more than 300 s",
        "a request took more than 120 s to prepare",
    ]
