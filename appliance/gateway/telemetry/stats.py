"""How requests went in the last five minutes and in the last hour: percentiles, shares and
rates, for each model and each key.

Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from appliance.gateway.telemetry.digest import Counts, percentile
from appliance.gateway.telemetry.engine_rates import INTERVAL_S, EngineRates, EngineWatch
from appliance.gateway.telemetry.gauges import ModelState
from appliance.gateway.telemetry.request_log import RequestLog, Sample
from appliance.gateway.telemetry.token_gaps import TokenGaps

WINDOWS_S: Mapping[str, float] = {"last_5_minutes": 300.0, "last_hour": 3600.0}
LONGEST_S = max(WINDOWS_S.values())
_SHARES = (0.5, 0.95, 0.99)


class Percentiles(msgspec.Struct, kw_only=True):
    """Of durations in seconds, by nearest rank; null of none."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


class RequestNumbers(msgspec.Struct, kw_only=True):
    """Of the requests that ended in a window; what is null had nothing to be computed from."""

    requests: int
    outcomes: dict[str, int]
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    prefix_hit_rate: float | None  # of prompt tokens, the share from the cache
    drafted_tokens: int
    accepted_draft_tokens: int
    draft_acceptance: float | None  # of drafted tokens, the share that was accepted
    queue_s: Percentiles
    first_token_s: Percentiles
    total_s: Percentiles  # of answered requests
    between_tokens_s: Percentiles  # within 1 %


class ModelNumbers(RequestNumbers, kw_only=True):
    """`covers_s`: of how long ago the earliest of its requests may be; less than the
    window where there were more requests than are kept.
    """

    covers_s: float
    engine: EngineRates | None  # null where it was not watched yet


class WindowNumbers(msgspec.Struct, kw_only=True):
    """The numbers of each model, and of each key by its id; of one key alone, no model's."""

    models: dict[str, ModelNumbers]
    keys: dict[str, RequestNumbers]


class StatsRecord(msgspec.Struct, kw_only=True):
    """Durations are in seconds."""

    uptime_s: float
    last_5_minutes: WindowNumbers
    last_hour: WindowNumbers


class Stats:
    """`clock` is the one by which `log` and `gaps` are told the time, in seconds."""

    def __init__(self, log: RequestLog, gaps: TokenGaps, clock: Callable[[], float]) -> None:
        self._log = log
        self._gaps = gaps
        self._clock = clock
        self._began_s = clock()
        self._models: Callable[[], Iterable[ModelState]] = tuple
        self._engines = EngineWatch(LONGEST_S)

    def watch(self, models: Callable[[], Iterable[ModelState]]) -> None:
        """`run` looks at these."""
        self._models = models

    async def run(self) -> None:
        """Looks at the engines again and again, until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(INTERVAL_S)

    def look(self) -> None:
        """At the engines, once."""
        self._engines.observe(self._models(), self._clock())

    async def record(self, key: str | None = None) -> StatsRecord:
        """Of all, or of one `key` alone. Computed in a thread: an hour's requests take some
        milliseconds to sort.
        """
        now_s = self._clock()
        samples = self._log.snapshot()
        windows = {
            name: (
                now_s - window_s,
                self._gaps.of_models(now_s - window_s),
                self._gaps.of_callers(now_s - window_s),
                self._engines.rates(now_s - window_s),
            )
            for name, window_s in WINDOWS_S.items()
        }

        def computed() -> StatsRecord:
            found = {
                name: _window(samples, *taken, now_s=now_s, began_s=self._began_s)
                if key is None
                else _window_of_key(key, samples, *taken[:3])
                for name, taken in windows.items()
            }
            return StatsRecord(uptime_s=now_s - self._began_s, **found)

        return await asyncio.to_thread(computed)


def _window(
    samples: Mapping[str, Sequence[Sample]],
    since_s: float,
    gaps_of_models: Mapping[str, Counts],
    gaps_of_keys: Mapping[str, Counts],
    engines: Mapping[str, EngineRates],
    *,
    now_s: float,
    began_s: float,
) -> WindowNumbers:
    models: dict[str, ModelNumbers] = {}
    by_key: dict[str, list[Sample]] = {key: [] for key, gaps in gaps_of_keys.items() if gaps}
    heard_of = {model_id for model_id, gaps in gaps_of_models.items() if gaps}
    for model_id in samples.keys() | engines.keys() | heard_of:
        all_samples = samples.get(model_id, ())
        recent = [each for each in all_samples if each.ended_s > since_s]
        for each in recent:
            by_key.setdefault(each.key, []).append(each)
        models[model_id] = ModelNumbers(
            **msgspec.structs.asdict(_numbers(recent, gaps_of_models.get(model_id, {}))),
            covers_s=now_s - max(RequestLog.begins_s(all_samples, since_s), began_s),
            engine=engines.get(model_id),
        )
    keys = {key: _numbers(found, gaps_of_keys.get(key, {})) for key, found in by_key.items()}
    return WindowNumbers(models=dict(sorted(models.items())), keys=dict(sorted(keys.items())))


def _window_of_key(
    key: str,
    samples: Mapping[str, Sequence[Sample]],
    since_s: float,
    _gaps_of_models: Mapping[str, Counts],
    gaps_of_keys: Mapping[str, Counts],
) -> WindowNumbers:
    """Models' numbers are of everybody's requests."""
    own = [
        each
        for of_model in samples.values()
        for each in of_model
        if each.key == key and each.ended_s > since_s
    ]
    return WindowNumbers(models={}, keys={key: _numbers(own, gaps_of_keys.get(key, {}))})


def _numbers(samples: Sequence[Sample], gaps: Counts) -> RequestNumbers:
    num_prompt = sum(each.num_prompt_tokens for each in samples)
    num_cached = sum(each.num_cached_tokens for each in samples)
    num_drafted = sum(each.num_drafted_tokens for each in samples)
    num_accepted = sum(each.num_accepted_tokens for each in samples)
    return RequestNumbers(
        requests=len(samples),
        outcomes=dict(Counter(each.outcome for each in samples)),
        prompt_tokens=num_prompt,
        cached_prompt_tokens=num_cached,
        completion_tokens=sum(each.num_completion_tokens for each in samples),
        prefix_hit_rate=num_cached / num_prompt if num_prompt else None,
        drafted_tokens=num_drafted,
        accepted_draft_tokens=num_accepted,
        draft_acceptance=num_accepted / num_drafted if num_drafted else None,
        queue_s=_exact(each.queue_s for each in samples),
        first_token_s=_exact(each.first_token_s for each in samples),
        total_s=_exact(each.total_s if each.is_answered else None for each in samples),
        between_tokens_s=Percentiles(
            count=sum(gaps.values()),
            **{f"p{share * 100:.0f}": percentile(gaps, share) for share in _SHARES},
        ),
    )


def _exact(durations_s: Iterable[float | None]) -> Percentiles:
    known = sorted(each for each in durations_s if each is not None)
    return Percentiles(
        count=len(known),
        **{
            f"p{share * 100:.0f}": known[math.ceil(share * len(known)) - 1] if known else None
            for share in _SHARES
        },
    )
