"""What is reserved before a request, settled after it, and refused, to the token."""

from __future__ import annotations

import re

import pytest

from appliance.errors import RateLimited
from appliance.gateway.accounts.caller import ANONYMOUS, Caller, CallerLimits
from appliance.gateway.accounts.cost import MAX_RESERVED_ANSWER_TOKENS, Cost, cost_of
from appliance.gateway.accounts.quotas import CountedRequest, Quotas, Reservation
from appliance.gateway.accounts.used import Standing
from appliance.protocol.events import (
    Delta,
    EmbedResult,
    Event,
    Finished,
    FinishReason,
    Started,
    Usage,
)
from appliance.protocol.requests import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    InfillPrompt,
    MixedPrompt,
    RerankRequest,
    TextPrompt,
    TokenPrompt,
)
from tests.gateway.accounts.clock import Clock


def alice(**limits: int) -> Caller:
    return Caller("alice", CallerLimits(**limits))


def asking(num_prompt_tokens: int, max_tokens: int | None) -> GenerateRequest:
    return GenerateRequest(prompt=TokenPrompt([1] * num_prompt_tokens), max_tokens=max_tokens)


def delta(num_tokens: int) -> Delta:
    return Delta(request_id=1, text="a", num_tokens=num_tokens)


def finished(num_prompt_tokens: int, num_completion_tokens: int) -> Finished:
    usage = Usage(
        num_prompt_tokens=num_prompt_tokens,
        num_cached_tokens=0,
        num_completion_tokens=num_completion_tokens,
    )
    return Finished(request_id=1, reason=FinishReason.STOP, usage=usage)


def reserved(
    quotas: Quotas, caller: Caller, request: CountedRequest, *, is_resumed: bool = False
) -> Reservation:
    reservation = quotas.reserve(caller, request, is_resumed=is_resumed)
    assert reservation is not None
    return reservation


def answered(quotas: Quotas, caller: Caller, request: GenerateRequest, *events: Event) -> None:
    with reserved(quotas, caller, request) as reservation:
        observed = reservation.begun()
        for event in events:
            observed.event(event)
        observed.ended("stop")


def left(quotas: Quotas, caller: Caller) -> dict[str, int]:
    return {standing.kind: standing.left for standing in quotas.standings(caller)}


def refused(quotas: Quotas, caller: Caller, request: CountedRequest) -> tuple[int | None, str]:
    with pytest.raises(RateLimited) as raised:
        quotas.reserve(caller, request)
    return raised.value.retry_after_s, raised.value.message


# --- requests -------------------------------------------------------------------------


def test_a_caller_without_limits_is_not_counted() -> None:
    quotas = Quotas()
    assert quotas.reserve(ANONYMOUS, asking(5, 5)) is None
    assert quotas.reserve(Caller("b", CallerLimits(models=("a",))), asking(5, 5)) is None
    assert quotas.standings(ANONYMOUS) == []


def test_requests_a_minute() -> None:
    clock = Clock()
    quotas, caller = Quotas(clocks=clock.clocks), alice(requests_per_minute=3)
    for _ in range(3):
        answered(quotas, caller, asking(5, 5))
    wait_s, message = refused(quotas, caller, asking(5, 5))
    assert wait_s == 20
    assert message == "This key may send 3 requests a minute. Try again in 20 s."
    clock.go_on(19.9)
    assert refused(quotas, caller, asking(5, 5))[0] == 1
    clock.go_on(0.1)
    answered(quotas, caller, asking(5, 5))
    assert quotas.standings(caller) == [Standing("requests", 3, 0, 60.0)]


def test_a_refusal_takes_nothing() -> None:
    quotas = Quotas(clocks=Clock().clocks)
    caller = alice(requests_per_minute=10, tokens_per_day=100)
    with reserved(quotas, caller, asking(30, 30)) as reservation:
        reservation.begun()
        for _ in range(20):
            refused(quotas, caller, asking(30, 30))
        assert left(quotas, caller) == {"requests": 9, "tokens-day": 40}


def test_a_request_that_never_begins_takes_nothing() -> None:
    quotas = Quotas(clocks=Clock().clocks)
    caller = alice(requests_per_minute=10, tokens_per_minute=100, concurrent_requests=1)
    with reserved(quotas, caller, asking(30, 30)):
        assert left(quotas, caller) == {"requests": 9, "tokens": 40}
    assert left(quotas, caller) == {"requests": 10, "tokens": 100}
    answered(quotas, caller, asking(30, 30))


def test_one_that_fails_before_it_is_accepted_takes_a_request_and_no_tokens() -> None:
    quotas = Quotas(clocks=Clock().clocks)
    caller = alice(requests_per_minute=10, tokens_per_minute=100)
    answered(quotas, caller, asking(30, 30))
    assert left(quotas, caller) == {"requests": 9, "tokens": 100}


def test_requests_at_once() -> None:
    quotas, caller = Quotas(), alice(concurrent_requests=2)
    with reserved(quotas, caller, asking(1, 1)), reserved(quotas, caller, asking(1, 1)):
        wait_s, message = refused(quotas, caller, asking(1, 1))
        assert wait_s == 1
        assert "may have 2 requests in flight" in message
        with reserved(quotas, Caller("bob", caller.limits), asking(1, 1)):
            pass
    answered(quotas, caller, asking(1, 1))


# --- tokens ---------------------------------------------------------------------------


def test_an_estimate_is_reserved_and_what_was_used_is_settled() -> None:
    quotas, caller = Quotas(clocks=Clock().clocks), alice(tokens_per_minute=1000)
    with reserved(quotas, caller, asking(100, 200)) as reservation:
        assert left(quotas, caller) == {"tokens": 700}
        observed = reservation.begun()
        observed.event(Started(1, 120))  # the model adds some of its own
        assert left(quotas, caller) == {"tokens": 680}
        observed.event(delta(7))
        assert left(quotas, caller) == {"tokens": 680}
        observed.event(finished(120, 8))
    assert left(quotas, caller) == {"tokens": 872}


def test_an_answer_that_outgrows_what_is_reserved_is_counted_as_it_grows() -> None:
    quotas, caller = Quotas(clocks=Clock().clocks), alice(tokens_per_minute=2000)
    with reserved(quotas, caller, asking(10, None)) as reservation:
        observed = reservation.begun()
        observed.event(Started(1, 10))
        assert left(quotas, caller) == {"tokens": 990 - (MAX_RESERVED_ANSWER_TOKENS - 1000)}
        observed.event(delta(MAX_RESERVED_ANSWER_TOKENS))
        assert left(quotas, caller) == {"tokens": 966}
        observed.event(delta(500))
        assert left(quotas, caller) == {"tokens": 466}
        observed.event(delta(1000))
        assert left(quotas, caller) == {"tokens": 0}
    assert quotas.standings(caller)[0].reset_s == (10 + 1024 + 1500) * 60 / 2000


def test_what_was_computed_for_who_left_is_counted() -> None:
    quotas, caller = Quotas(clocks=Clock().clocks), alice(tokens_per_minute=1000)
    answered(quotas, caller, asking(100, 200), Started(1, 100), delta(3), delta(4))
    assert left(quotas, caller) == {"tokens": 893}


def test_who_comes_back_pays_for_the_rest_only_and_is_never_refused() -> None:
    quotas = Quotas(clocks=Clock().clocks)
    caller = alice(tokens_per_minute=110, requests_per_minute=1)
    answered(quotas, caller, asking(100, 10), Started(1, 100), delta(3))
    with reserved(quotas, caller, asking(0, None), is_resumed=True) as reservation:
        observed = reservation.begun()
        observed.event(delta(4))
        observed.event(finished(100, 7))
    assert left(quotas, caller) == {"requests": 0, "tokens": 3}


def test_tokens_that_are_not_there_are_waited_for() -> None:
    clock = Clock()
    quotas, caller = Quotas(clocks=clock.clocks), alice(tokens_per_minute=600)
    answered(quotas, caller, asking(400, 100), Started(1, 400), finished(400, 100))
    wait_s, message = refused(quotas, caller, asking(100, 50))
    assert wait_s == 5
    assert message == (
        "This key may use 600 tokens a minute, of prompts and answers together. 100 are left, and "
        "this request may take 150. Try again in 5 s."
    )
    clock.go_on(5)
    answered(quotas, caller, asking(100, 50))


def test_a_request_larger_than_the_limit_is_answered_where_all_is_free() -> None:
    quotas = Quotas(clocks=Clock().clocks)
    caller = alice(tokens_per_minute=600, tokens_per_day=700)
    answered(quotas, caller, asking(900, 5), Started(1, 900), finished(900, 5))
    assert left(quotas, caller) == {"tokens": 0, "tokens-day": 0}
    assert refused(quotas, caller, asking(1, 1))[0] == 43_200


def test_tokens_a_day_end_at_midnight() -> None:
    clock = Clock()
    written: list[tuple[str, int, int]] = []
    quotas = Quotas(clocks=clock.clocks, on_day_tokens=lambda *use: written.append(use))
    caller = alice(tokens_per_day=1000)
    answered(quotas, caller, asking(600, 100), Started(1, 600), finished(600, 100))
    assert quotas.standings(caller) == [Standing("tokens-day", 1000, 300, 43_200.0)]
    wait_s, message = refused(quotas, caller, asking(300, 1))
    assert wait_s == 43_200
    assert "300 are left until 00:00 UTC, and this request may take 301." in message
    answered(quotas, caller, asking(200, 100), Started(1, 200), finished(200, 100))
    assert refused(quotas, caller, asking(1, 0))[0] == 43_200
    clock.go_on(43_200)
    answered(quotas, caller, asking(900, 100), Started(1, 900), finished(900, 1))
    assert left(quotas, caller) == {"tokens-day": 99}
    day = clock.day
    assert written == [("alice", day - 1, 700), ("alice", day - 1, 300), ("alice", day, 901)]


def test_what_others_have_used_today_counts_once_beside_our_own() -> None:
    clock = Clock()
    quotas, caller = Quotas(clocks=clock.clocks), alice(tokens_per_day=1000)
    answered(quotas, caller, asking(10, 90), Started(1, 10), finished(10, 90))
    before = quotas.settled()
    # settled while the file, with 100 of ours and 50 of another process, is read
    answered(quotas, caller, asking(5, 15), Started(1, 5), finished(5, 15))
    with reserved(quotas, caller, asking(100, 100)):
        quotas.set_day_tokens(clock.day, {"alice": 150}, before)
        assert left(quotas, caller) == {"tokens-day": 1000 - 150 - 20 - 200}
    assert left(quotas, caller) == {"tokens-day": 830}


def test_raised_limits_count_at_once() -> None:
    quotas = Quotas(clocks=Clock().clocks)
    answered(quotas, alice(requests_per_minute=1), asking(1, 1))
    refused(quotas, alice(requests_per_minute=1), asking(1, 1))
    answered(quotas, alice(requests_per_minute=2), asking(1, 1))


def test_vectors_take_their_tokens() -> None:
    quotas, caller = Quotas(clocks=Clock().clocks), alice(tokens_per_minute=100)
    request = EmbedRequest([TextPrompt("a" * 40), TokenPrompt([1, 2])])
    with reserved(quotas, caller, request) as reservation:
        assert left(quotas, caller) == {"tokens": 87}
        reservation.begun().event(EmbedResult(1, b"", 0, 15))
    assert left(quotas, caller) == {"tokens": 85}


# --- estimates ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "cost"),
    [
        (asking(7, 20), Cost(7, 20)),
        (asking(7, None), Cost(7, 1024)),
        (asking(7, 30_000), Cost(7, 1024)),
        (GenerateRequest(prompt=TextPrompt("eight by"), max_tokens=0), Cost(3, 0)),
        (GenerateRequest(prompt=TextPrompt("東京都"), max_tokens=0), Cost(3, 0)),
        (GenerateRequest(prompt=MixedPrompt(["abcd", [1, 2]]), max_tokens=1), Cost(4, 1)),
        (
            GenerateRequest(prompt=InfillPrompt(prefix="abcd", suffix="efgh"), max_tokens=1),
            Cost(3, 1),
        ),
        (EmbedRequest([TextPrompt("abcd")]), Cost(2)),
        (RerankRequest("abcd", ["abcd", "abcdefgh"]), Cost(9)),
        (RerankRequest("abcd", ["abcd", "abcdefgh" * 9], 2), Cost(8)),
    ],
)
def test_estimates(request_: CountedRequest, cost: Cost) -> None:
    assert cost_of(request_) == cost


def test_a_conversation_is_estimated_with_its_tools() -> None:
    messages = [{"role": "user", "content": "Hello"}]
    written = '[[{"role":"user","content":"Hello"}],null]'
    assert re.sub(r"\s", "", written) == written
    plain = cost_of(GenerateRequest(prompt=ChatPrompt(messages=messages), max_tokens=1))
    assert plain == Cost(len(written) // 4 + 1, 1)
    tools = [{"type": "function", "function": {"name": "f"}}]
    prompt = ChatPrompt(messages=messages, tools=tools)
    assert cost_of(GenerateRequest(prompt=prompt, max_tokens=1)).prompt > plain.prompt
