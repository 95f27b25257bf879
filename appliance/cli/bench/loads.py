"""The loads of `appliance bench`, one after the other, and their figures.

Knows no command line. The same seed makes the same prompts; each run begins with words
of its own, so that no cache knows them from the run before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial

from appliance.cli.bench.figures import common_figures
from appliance.cli.bench.stream import Answer, Endpoint, Request
from appliance.cli.bench.words import random_text

_TAIL_TOKENS = 16  # what follows a shared prefix
_WARM_UP_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Prompts in words, which are about as many tokens; answers in tokens."""

    num_streams: int
    num_prompt_tokens: int
    num_new_tokens: int


@dataclass(frozen=True)
class Load:
    endpoint: Endpoint
    sizes: Sizes
    rng: random.Random
    on_share: Callable[[float], None] = lambda _share: None  # of the load that runs, done so far

    async def all_at_once(self, prompts: list[str]) -> list[Answer]:
        """Raises `RequestFailed`."""
        counted = _Counted(len(prompts) * self.sizes.num_new_tokens, self.on_share)
        answers = (
            self.endpoint.complete(
                Request(f"stream {number}", prompt, self.sizes.num_new_tokens), counted
            )
            for number, prompt in enumerate(prompts, 1)
        )
        return [*await asyncio.gather(*answers)]

    async def warm_up(self) -> None:
        """Not measured: first touches of memory."""
        await self.endpoint.complete(Request("warm-up", self.words(), _WARM_UP_TOKENS))

    def words(self) -> str:
        return random_text(self.rng, self.sizes.num_prompt_tokens)


class _Counted:
    """Counts the pieces of all answers, and tells each percent: more would take time from
    what is measured.
    """

    def __init__(self, num_pieces: int, on_share: Callable[[float], None]) -> None:
        self._num_pieces = num_pieces
        self._on_share = on_share
        self._done = 0

    def __call__(self, _num_of_stream: int) -> None:
        percent = 100 * self._done // self._num_pieces
        self._done += 1
        if percent < 100 * self._done // self._num_pieces < 100:
            self._on_share(self._done / self._num_pieces)


async def _one(load: Load) -> list[Answer]:
    return await load.all_at_once([load.words()])


async def _several(load: Load) -> list[Answer]:
    return await load.all_at_once([load.words() for _ in range(load.sizes.num_streams)])


async def _shared(load: Load) -> list[Answer]:
    prefix = load.words()
    tails = (random_text(load.rng, _TAIL_TOKENS) for _ in range(load.sizes.num_streams))
    return await load.all_at_once([prefix + tail for tail in tails])


LOADS: dict[str, Callable[[Load], Coroutine[None, None, list[Answer]]]] = {
    "one stream": _one,
    "several streams": _several,
    "shared prefix": _shared,
}


async def measured(
    load: Load, on_progress: Callable[[str, float], None]
) -> dict[str, dict[str, float]]:
    """The figures of each load by name; see `common_figures`. `on_progress` gets the share
    of each that is done. Raises `RequestFailed`.
    """
    await load.warm_up()
    results = {}
    for name, run in LOADS.items():
        on_share = partial(on_progress, name)
        on_share(0.0)
        results[name] = common_figures(await run(replace(load, on_share=on_share)))
        on_share(1.0)
    return results
