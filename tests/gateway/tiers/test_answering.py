"""Requests for `auto`: which models are asked, in which order, and what the reader is told."""

from __future__ import annotations

import msgspec
import pytest

from appliance.errors import (
    ApplianceError,
    BadSettings,
    ModelNotFound,
    ModelUnavailable,
    PromptTooLong,
    QueueFull,
    RateLimited,
)
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import ANONYMOUS, Caller, CallerLimits
from appliance.gateway.library.facts import ModelFacts
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.tiers.choosing import Choice
from appliance.gateway.tiers.rules import AutoRules
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    Route,
    SampledToken,
    Started,
    Usage,
)
from appliance.protocol.health import WorkerState
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import GenerateRequest, TextPrompt, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ScriptedClient, Step

SIZES = {"small": 1, "medium": 2, "large": 3}
EASY = GenerateRequest(prompt=TextPrompt("Hello"))
HARD = GenerateRequest(prompt=TextPrompt("Calculate 12 * 7 in Python code: a function."))
EASY_REASON = "score 0 of 100 (nothing in it): tier 1 of 3"
SURE = -0.1


def answer(
    text: str, reason: FinishReason = FinishReason.STOP, logprob: float = SURE
) -> list[Step]:
    token = SampledToken(LikelyToken(b"x", logprob), [], 0)
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=9)
    return [
        Started(1, 5),
        Delta(request_id=1, text=text, num_tokens=1, tokens=[token]),
        Finished(request_id=1, reason=reason, usage=usage),
    ]


CUT = FinishReason.LENGTH


class House:
    """Three models, each with a script, and the gateway before them."""

    def __init__(
        self,
        small: list[Step] | None = None,
        medium: list[Step] | None = None,
        large: list[Step] | None = None,
        *,
        rules: AutoRules | None = None,
        unloaded: tuple[str, ...] = (),
    ) -> None:
        scripts = {"small": small, "medium": medium, "large": large}
        self.clients = {
            name: ScriptedClient(
                *(script or answer(name)),
                state=WorkerState.UNLOADED if name in unloaded else WorkerState.READY,
            )
            for name, script in scripts.items()
        }
        # not in the order of their size
        self.router = Router([self._served(name) for name in ("large", "small", "medium")], rules)
        self.gateway = Gateway(self.router, Admission())

    def _served(self, name: str) -> ServedModel:
        facts = ModelFacts(num_params=SIZES[name], num_bytes=1)
        return ServedModel(id=name, client=self.clients[name], created=0, facts=lambda: facts)

    async def ask(
        self, *requests: GenerateRequest, is_whole: bool = True, model: str = "auto"
    ) -> tuple[str, Route | None]:
        """The text of all answers, and the route as it is told at the end, which is that of
        the start.
        """
        stream = self.gateway.generate_choices(
            ANONYMOUS, self.router.resolve(model), requests, is_whole=is_whole
        )
        async with stream as happening:
            events: list[Event] = [happened.event async for happened in happening]
        [started, *_] = [event for event in events if isinstance(event, Started)]
        [finished, *_] = [event for event in events if isinstance(event, Finished)]
        assert started.route == finished.usage.route
        return "".join(e.text for e in events if isinstance(e, Delta)), started.route

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(each.requests) for name, each in self.clients.items() if each.requests}


async def test_easy_and_hard_requests() -> None:
    house = House()
    assert await house.ask(EASY) == (
        "small",
        Route(model="small", score=0, reason=EASY_REASON, asked=["small"]),
    )
    assert await house.ask(HARD) == (
        "large",
        Route(
            model="large",
            score=60,
            reason="score 60 of 100 (code 30, mathematics 30): tier 3 of 3",
            asked=["large"],
        ),
    )
    assert await house.ask(HARD, model="small") == ("small", None)


async def test_thresholds_and_tiers_as_they_are_set() -> None:
    text, route = await House(rules=AutoRules(thresholds=(70.0, 90.0))).ask(HARD)
    assert (text, route and route.reason[-11:]) == ("small", "tier 1 of 3")
    text, _ = await House(rules=AutoRules(tiers=("medium", "small"))).ask(HARD)
    assert text == "small", "which is said to be the larger one"
    for rules in (AutoRules(is_on=False), AutoRules(tiers=("medium",))):
        with pytest.raises(
            ModelNotFound, match=r"'auto' is not served here.*chooses among two models or more"
        ):
            House(rules=rules).router.resolve("auto")
    with pytest.raises(BadSettings, match="there is no model 'huge' here"):
        House(rules=AutoRules(tiers=("small", "huge")))


@pytest.mark.parametrize(
    ("num_tiers", "expected"), [(1, [0, 0, 0]), (2, [0, 1, 1]), (3, [0, 1, 2]), (5, [0, 1, 4])]
)
def test_the_usual_thresholds(num_tiers: int, expected: list[int]) -> None:
    assert [AutoRules().tier_of(score, num_tiers) for score in (14, 15, 40)] == expected


async def test_an_answer_that_will_not_do_is_given_up_for_the_next_models() -> None:
    house = House(small=answer("small", CUT), medium=answer("medium", logprob=-9.0))
    assert await house.ask(EASY) == (
        "large",
        Route(
            model="large",
            score=0,
            reason=f"{EASY_REASON}; small: its answer was cut after 9 tokens; "
            "medium: its answer has a mean log-probability of -9.00 (a probability of 0.00012), "
            "below -1.61 (0.2)",
            asked=["small", "medium", "large"],
        ),
    )
    assert house.asked == {"small": 1, "medium": 1, "large": 1}
    assert house.gateway.num_requests == 0
    looked_at = {
        name: each.requests[0].sampling.num_top_logprobs for name, each in house.clients.items()
    }
    assert looked_at == {"small": 0, "medium": 0, "large": None}, "the largest is not judged"


async def test_log_probabilities_that_nobody_asked_for_are_not_told() -> None:
    house = House()
    auto = house.router.resolve("auto")
    asking = msgspec.structs.replace(EASY, sampling=SamplingParams(num_top_logprobs=0))
    for request, expected in ((EASY, [True]), (asking, [False])):
        async with house.gateway.generate_choices(
            ANONYMOUS, auto, [request], is_whole=True
        ) as all_:
            events = [happened.event async for happened in all_]
        assert [e.tokens is None for e in events if isinstance(e, Delta)] == expected


async def test_a_stream_is_not_taken_back() -> None:
    house = House(small=answer("small", CUT))
    text, route = await house.ask(EASY, is_whole=False)
    assert (text, route and route.asked, house.asked) == ("small", ["small"], {"small": 1})
    assert house.clients["small"].requests[0].sampling.num_top_logprobs is None


@pytest.mark.parametrize("is_whole", [True, False])
async def test_what_fails_before_it_begins_is_asked_elsewhere(is_whole: bool) -> None:
    house = House(small=[PromptTooLong("It is too long.")], medium=[ModelUnavailable("No.")])
    text, route = await house.ask(EASY, is_whole=is_whole)
    assert route is not None
    assert (text, route.asked) == ("large", ["small", "medium", "large"])
    assert route.reason == f"{EASY_REASON}; small: It is too long.; medium: No."
    for error in (QueueFull("Full."), RateLimited("Enough.")):
        with pytest.raises(type(error)):
            await House(small=[error]).ask(EASY, is_whole=is_whole)
    with pytest.raises(ModelUnavailable):
        await House(large=[ModelUnavailable("No.")]).ask(HARD, is_whole=is_whole)


async def test_a_stream_that_breaks_is_broken() -> None:
    begun: list[Step] = [*answer("small")[:2], ModelUnavailable("No.")]
    with pytest.raises(ModelUnavailable):
        await House(small=begun).ask(EASY, is_whole=False)
    text, route = await House(small=begun).ask(EASY)
    assert (text, route and route.asked) == ("medium", ["small", "medium"])


@pytest.mark.parametrize("error", [ModelUnavailable("No."), QueueFull("Full.")])
async def test_a_poor_answer_is_better_than_none(error: ApplianceError) -> None:
    house = House(small=answer("small", CUT), medium=[error], large=[error])
    text, route = await house.ask(EASY)
    assert route is not None
    assert (text, route.model, route.asked[:2]) == ("small", "small", ["small", "medium"])
    assert f"medium: {error.message}" in route.reason


async def test_what_is_loaded_goes_before_what_is_not() -> None:
    house = House(unloaded=("small", "medium"))
    text, route = await house.ask(EASY)
    assert (text, route and route.reason) == (
        "large",
        f"{EASY_REASON}; small is not loaded, and this is",
    )
    text, _ = await House(unloaded=("medium", "large")).ask(HARD)
    assert text == "large", "no smaller one takes its place: it is loaded"
    text, _ = await House(unloaded=tuple(SIZES)).ask(EASY)
    assert text == "small"


async def test_several_answers_come_from_one_model() -> None:
    house = House(small=answer("small", CUT))
    text, route = await house.ask(EASY, EASY)
    assert (text, route and route.asked) == ("smallsmall", ["small"])
    text, _ = await House().ask(EASY, HARD)
    assert text == "largelarge", "what the harder prompt needs"


async def test_token_ids_go_to_the_model_that_made_them() -> None:
    house = House()
    auto = house.router.resolve("auto")
    await house.gateway.ask(ANONYMOUS, auto, Tokenize(TextPrompt("Hello")))
    assert len(house.clients["small"].questions) == 1
    text, route = await house.ask(GenerateRequest(prompt=TokenPrompt([1] * 9000)))
    assert (text, route and route.score) == ("small", 25)


def test_a_key_gets_the_tiers_that_it_may_use() -> None:
    house = House()

    def auto_of(*names: str) -> list[str | None] | None:
        caller = Caller("key", CallerLimits(models=names))
        auto = house.router.models_of(caller).auto
        if auto is None or auto.tiers is None:
            return None
        return [None if model is None else model.id for model in auto.tiers.models]

    assert auto_of("small", "large") == ["small", None, "large"]
    assert auto_of("medium") == [None, "medium", None]
    assert auto_of("gone") is None
    assert [model.id for model in house.router.listed] == ["large", "small", "medium", "auto"]


def test_a_request_needs_the_same_tier_whoever_asks() -> None:
    house = House()

    def choice(request: GenerateRequest, *names: str) -> tuple[list[str], str]:
        caller = Caller("key", CallerLimits(models=names))
        auto = house.router.models_of(caller).auto
        assert auto is not None
        assert auto.tiers is not None
        found = Choice.of(auto.tiers, [request])
        return [model.id for model in found.models], found.reason.partition(": ")[2]

    assert choice(EASY, "small", "large") == (["small", "large"], "tier 1 of 3")
    assert choice(EASY, "medium") == (["medium"], "tier 1 of 3, which the key may not use")
    assert choice(HARD, "small", "medium") == (
        ["medium"],
        "tier 3 of 3, and this is the largest that the key may use",
    )


def test_a_model_called_auto_is_that_model() -> None:
    house = House()
    own = ServedModel(id="auto", client=ScriptedClient(), created=0)
    router = Router([*house.router.models, own])
    assert router.resolve("auto") is own
    assert len(router.listed) == 4


async def test_a_stream_that_was_left_goes_on_with_its_model() -> None:
    house = House(small=[PromptTooLong("It is too long.")])
    auto = house.router.resolve("auto")
    stream = house.gateway.generate_choices(ANONYMOUS, auto, [EASY])
    stream.keep("name")
    async with stream as happening:
        started = (await anext(happening)).event
    assert isinstance(started, Started)
    await house.clients["medium"].closed.wait()
    async with stream as happening:
        *_, finished = [happened.event async for happened in happening]
    assert isinstance(finished, Finished)
    assert finished.usage.route == started.route
    assert started.route is not None
    assert (started.route.model, started.route.asked) == ("medium", ["small", "medium"])
    assert house.asked == {"small": 1, "medium": 1}, "and is not asked for anew"


async def test_a_limit_of_the_key_leaves_the_answer_that_there_is() -> None:
    """A larger model is another request, which its limits may refuse."""
    house = House(small=answer("small", CUT))
    caller = Caller("key", CallerLimits(requests_per_minute=1))
    auto = house.router.resolve("auto")
    async with house.gateway.generate_choices(caller, auto, [EASY], is_whole=True) as happening:
        *_, finished = [happened.event async for happened in happening]
    assert isinstance(finished, Finished)
    assert finished.usage.route is not None
    assert finished.usage.route.model == "small"
    assert house.asked == {"small": 1}
    assert "medium: " in finished.usage.route.reason
