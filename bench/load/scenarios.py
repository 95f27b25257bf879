"""The scenarios: which requests are sent when, and which figures count.

Knows no process and no statistics over rounds.

Both servers get the same prompts. All of them begin with random words of their own
round and scenario, so that no server's cache helps unless the scenario is about that;
what each cache then does is left as the server has it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from appliance.cli.bench.figures import (
    ALL_DONE,
    COMMON,
    GAP_P99,
    TOKENS_PER_S,
    TTFT_P50,
    TTFT_P95,
    Figure,
    common_figures,
)
from appliance.cli.bench.stream import Answer, Endpoint, Request, now_s
from appliance.cli.bench.words import random_text
from bench.load.prompts import RealPrompts
from bench.load.servers import Server

_NUM_STREAMS = 8
_SHORT_PROMPT_TOKENS = 32
_NUM_RUNNING = 3
_RUNNING_AFTER_EVENTS = 8  # a stream counts as running once so much of it has come
_MAX_WAIT_S = 120.0
_TAIL_TOKENS = 16  # what follows a shared prefix


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything: in tokens, seconds and requests per second."""

    new_tokens_alone: int = 192
    new_tokens_of_eight: int = 64
    shared_prefix: int = 860
    long_prompt: int = 1900
    new_tokens_running: int = 128
    new_tokens_after_long: int = 16
    known_prompt: int = 2000
    idle_before_restart_s: float = 3.0
    deep_prompt: int = 1000
    new_tokens_of_deep: int = 64
    prefill: int = 2048
    turns: int = 20
    turn: int = 100  # tokens of a turn's answer and of the next question
    new_tokens_of_turn: int = 16
    mixed_s: float = 60.0
    mixed_per_s: float = 0.4
    mixed_new_tokens: tuple[int, int] = (16, 96)


SHORT = Sizes(
    new_tokens_alone=32,
    new_tokens_of_eight=8,
    shared_prefix=128,
    long_prompt=384,
    new_tokens_running=24,
    new_tokens_after_long=4,
    known_prompt=320,
    idle_before_restart_s=0.5,
    deep_prompt=100,
    new_tokens_of_deep=8,
    prefill=256,
    turns=3,
    turn=40,
    new_tokens_of_turn=4,
    mixed_s=4.0,
    mixed_per_s=0.75,
    mixed_new_tokens=(4, 12),
)


@dataclass(frozen=True)
class Load:
    """What a scenario has to work with; `rng` is the same for both servers."""

    server: Server
    rng: random.Random
    sizes: Sizes
    real_prompts: RealPrompts | None

    @property
    def endpoint(self) -> Endpoint:
        return self.server.endpoint

    def distinct(self, count: int, num_new_tokens: int) -> list[Request]:
        return [
            Request(f"stream {number}", random_text(self.rng, _SHORT_PROMPT_TOKENS), num_new_tokens)
            for number in range(1, count + 1)
        ]


@dataclass(frozen=True)
class Observed:
    answers: list[Answer]
    figures: dict[str, float] = field(default_factory=dict)  # beside those that all scenarios have

    @property
    def all_figures(self) -> dict[str, float]:
        return {**common_figures(self.answers), **self.figures}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`figures` are those with something to reach, or of this scenario alone.

    Where `is_one_load` is false its requests are of several kinds, one after the other:
    pooled, they say nothing.
    """

    name: str
    title: str
    run: Callable[[Load], Coroutine[None, None, Observed]]
    figures: Sequence[Figure]
    needs_real_prompts: bool = False
    is_one_load: bool = True

    @property
    def all_figures(self) -> list[Figure]:
        """Its own, and then the common ones that are not among them."""
        own = {figure.name for figure in self.figures}
        return [
            *self.figures,
            *(figure for figure in COMMON if self.is_one_load and figure.name not in own),
        ]


async def warm_up(load: Load) -> None:
    """Not measured: first touches of memory,
    and whatever a server learns of its speed.
    """
    await _all_at_once(load, load.distinct(_NUM_STREAMS, load.sizes.new_tokens_of_eight // 2))
    long = Request("long", random_text(load.rng, load.sizes.long_prompt // 2), 4)
    await _all_at_once(
        load, [*load.distinct(_NUM_RUNNING, load.sizes.new_tokens_running // 4), long]
    )


async def _one_stream(load: Load) -> Observed:
    answer = await load.endpoint.complete(load.distinct(1, load.sizes.new_tokens_alone)[0])
    return Observed(
        [answer], {_DECODE.name: (answer.num_tokens - 1) / (answer.ended_s - answer.arrivals_s[0])}
    )


async def _eight_streams(load: Load) -> Observed:
    return Observed(
        await _all_at_once(load, load.distinct(_NUM_STREAMS, load.sizes.new_tokens_of_eight))
    )


def _deep_streams(count: int) -> Callable[[Load], Coroutine[None, None, Observed]]:
    """`count` streams, each over a long prompt of its own that its server knows already."""

    async def run(load: Load) -> Observed:
        sizes = load.sizes
        prompts = [random_text(load.rng, sizes.deep_prompt) for _ in range(count)]
        for prompt in prompts:
            await load.endpoint.complete(Request("prompt", prompt, 1))
        streams = [
            Request(f"stream {number}", prompt, sizes.new_tokens_of_deep)
            for number, prompt in enumerate(prompts, 1)
        ]
        return Observed(await _all_at_once(load, streams))

    return run


async def _prefill(load: Load) -> Observed:
    """A long prompt alone, and two tokens: of one there would be no gap."""
    answer = await load.endpoint.complete(
        Request("prompt", random_text(load.rng, load.sizes.prefill), 2)
    )
    return Observed([answer], {_PREFILL.name: load.sizes.prefill / answer.ttft_s})


async def _shared_prefix(load: Load) -> Observed:
    prefix = random_text(load.rng, load.sizes.shared_prefix)
    requests = [
        Request(
            f"stream {number}",
            prefix + random_text(load.rng, _TAIL_TOKENS),
            load.sizes.new_tokens_of_eight,
        )
        for number in range(1, _NUM_STREAMS + 1)
    ]
    return Observed(await _all_at_once(load, requests))


async def _long_prompt(load: Load) -> Observed:
    """A long prompt comes once all streams are running;
    these have enough to say to outlast it.
    """
    all_running = asyncio.Event()
    num_running = 0

    def on_event(num_events: int) -> None:
        nonlocal num_running
        num_running += num_events == _RUNNING_AFTER_EVENTS
        if num_running == _NUM_RUNNING:
            all_running.set()

    long = Request(
        "long prompt",
        random_text(load.rng, load.sizes.long_prompt),
        load.sizes.new_tokens_after_long,
    )

    async def send_long() -> Answer:
        await asyncio.wait_for(all_running.wait(), _MAX_WAIT_S)
        return await load.endpoint.complete(long)

    requests = load.distinct(_NUM_RUNNING, load.sizes.new_tokens_running)
    *streams, last = await asyncio.gather(
        *(load.endpoint.complete(request, on_event) for request in requests), send_long()
    )
    return Observed(
        [*streams, last],
        {_WORST_GAP.name: _worst_gap_ms(streams, last.sent_s), _LONG_TTFT.name: last.ttft_s},
    )


def _worst_gap_ms(streams: Sequence[Answer], since_s: float) -> float:
    """The longest pause in any of the streams that ended after `since_s`."""
    gaps_s = [
        after - before
        for answer in streams
        for before, after in pairwise(answer.arrivals_s)
        if after > since_s
    ]
    return 1000 * max(gaps_s)


async def _mixed(load: Load) -> Observed:
    """Poisson arrivals, whatever the server does with them: the times are drawn before
    the first is sent.
    """
    assert load.real_prompts is not None, "the scenario says that it needs them"
    sizes, rng = load.sizes, load.rng
    arrivals: list[tuple[float, Request]] = []
    at_s = 0.0
    while at_s < sizes.mixed_s:
        prompt = random_text(rng, 8) + "\n\n" + load.real_prompts.draw(rng)
        arrivals.append(
            (
                at_s,
                Request(
                    f"request {len(arrivals) + 1}", prompt, rng.randint(*sizes.mixed_new_tokens)
                ),
            )
        )
        at_s += rng.expovariate(sizes.mixed_per_s)
    started_s = now_s()

    async def send(after_s: float, request: Request) -> Answer:
        await asyncio.sleep(started_s + after_s - now_s())
        return await load.endpoint.complete(request)

    return Observed(list(await asyncio.gather(*(send(*arrival) for arrival in arrivals))))


async def _turns(load: Load) -> Observed:
    """A chat whose every prompt is the one before, an answer that is not quite what was
    answered (as where a template leaves out reasoning), and a question.
    """
    sizes = load.sizes
    prompt, answers = random_text(load.rng, sizes.turn), list[Answer]()
    for turn in range(1, sizes.turns + 1):
        answers.append(
            await load.endpoint.complete(Request(f"turn {turn}", prompt, sizes.new_tokens_of_turn))
        )
        prompt += random_text(load.rng, sizes.turn)
    first, last = answers[0], answers[-1]
    return Observed(answers, {_FIRST_TURN.name: first.ttft_s, _LAST_TURN.name: last.ttft_s})


async def _restart(load: Load) -> Observed:
    """A prompt that was answered twice is asked again after the server's restart."""
    prompt = random_text(load.rng, load.sizes.known_prompt)
    asked = [
        Request(label, prompt, 8) for label in ("computed", "asked again", "after the restart")
    ]
    answers = [await load.endpoint.complete(request) for request in asked[:2]]
    # a server may write when nobody waits for it
    await asyncio.sleep(load.sizes.idle_before_restart_s)
    load.server.restart()
    # what a first request costs is not the question
    await load.endpoint.complete(load.distinct(1, 4)[0])
    answers.append(await load.endpoint.complete(asked[2]))
    computed, again, known = (answer.ttft_s for answer in answers)
    return Observed(
        answers,
        {
            _COMPUTED.name: computed,
            _AGAIN.name: again,
            _KNOWN.name: known,
            _KNOWN_SHARE.name: known / computed,
            _READY.name: load.server.ready_after_s,
        },
    )


async def _all_at_once(load: Load, requests: Sequence[Request]) -> list[Answer]:
    return list(await asyncio.gather(*(load.endpoint.complete(request) for request in requests)))


_DECODE = Figure(name="decode_tokens_per_s", unit="tokens/s", more_is_better=True, least_gain=1.0)
_WORST_GAP = Figure(name="worst_gap_of_streams_ms", unit="ms", least_gain=20)
_LONG_TTFT = Figure(name="long_prompt_ttft_s", unit="s", least_gain=1 / 1.3)
_PREFILL = Figure(name="prefill_tokens_per_s", unit="tokens/s", more_is_better=True, least_gain=1.3)
_FIRST_TURN = Figure(name="first_turn_ttft_s", unit="s")
_LAST_TURN = Figure(name="last_turn_ttft_s", unit="s", least_gain=10)
_COMPUTED = Figure(name="computed_ttft_s", unit="s")
_AGAIN = Figure(name="asked_again_ttft_s", unit="s")
_KNOWN = Figure(name="after_restart_ttft_s", unit="s")
_KNOWN_SHARE = Figure(name="after_restart_ttft_share", unit="of computing it", most=0.05)
_READY = Figure(name="restarted_ready_after_s", unit="s")


def _reach(figure: Figure, least_gain: float) -> Figure:
    return Figure(
        name=figure.name,
        unit=figure.unit,
        more_is_better=figure.more_is_better,
        least_gain=least_gain,
    )


SCENARIOS = (
    Scenario(name="one_stream", title="One stream", run=_one_stream, figures=[_DECODE]),
    Scenario(
        name="eight_streams",
        title="8 distinct streams",
        run=_eight_streams,
        figures=[_reach(TOKENS_PER_S, 2.0)],
    ),
    *(
        Scenario(
            name=f"deep_{count}_streams",
            title=f"{count} streams over long prompts of their own",
            run=_deep_streams(count),
            figures=[_reach(TOKENS_PER_S, least_gain)],
        )
        for count, least_gain in ((4, 1.8), (8, 2.0), (16, 1.8))
    ),
    Scenario(name="prefill", title="A long prompt alone", run=_prefill, figures=[_PREFILL]),
    Scenario(
        name="shared_prefix",
        title="8 streams at once, shared prefix",
        run=_shared_prefix,
        figures=[_reach(TTFT_P50, 7), _reach(ALL_DONE, 5)],
    ),
    Scenario(
        name="long_prompt",
        title="A long prompt into 3 running streams",
        run=_long_prompt,
        figures=[_WORST_GAP, _reach(TOKENS_PER_S, 1.0), _LONG_TTFT],
    ),
    Scenario(
        name="mixed",
        title="Mixed arrivals from real prompts",
        run=_mixed,
        figures=[_reach(TTFT_P95, 1.0), _reach(GAP_P99, 4.0), _reach(TOKENS_PER_S, 0.98)],
        needs_real_prompts=True,
    ),
    Scenario(
        name="turns",
        title="A chat of 20 turns",
        run=_turns,
        figures=[_LAST_TURN, _FIRST_TURN],
        is_one_load=False,
    ),
    Scenario(
        name="restart",
        title="Restart, known prompt",
        run=_restart,
        figures=[_KNOWN_SHARE, _COMPUTED, _AGAIN, _KNOWN, _READY],
        is_one_load=False,
    ),
)
