"""A library of models that says what it is told to, and keeps what it was asked to fetch.

Knows no file and no hub.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from appliance.gateway.library.changes import Progress
from appliance.gateway.library.library import NoLibrary
from appliance.gateway.library.offers import Catalog, CatalogOffer, PullPlan

MIB = 1 << 20
NAME, LARGE = "tiny-chat", "large-chat"
PLAN = PullPlan(
    model=NAME,
    repository="org/tiny-GGUF",
    is_here=False,
    fits=True,
    choice="Q8_0, context 4096, 8192 cells of q8_0, 4 slots",
    reason="Q8_0 is the best that fits <b>here</b>.",
    quantization="Q8_0",
    download_bytes=200 * MIB,
    need_bytes=700 * MIB,
    sizes={"Q4_K_M": 120 * MIB, "Q8_0": 200 * MIB},
)
NOTHING = PullPlan(
    model=LARGE,
    repository="org/large-GGUF",
    is_here=False,
    reason="Nothing fits: 9 GiB are needed, and 2 GiB are free.",
    sizes={"Q4_K_M": 8192 * MIB},
)


def offer(name: str, size_bytes: int, *, fits: bool) -> CatalogOffer:
    return CatalogOffer(
        name=name,
        repository=f"org/{name}-GGUF",
        kind="chat",
        licence="MIT",
        languages=("en",),
        parameters=135_000_000,
        active_parameters=135_000_000,
        ctx=8192,
        note="",
        draft=None,
        sizes={"Q8_0": size_bytes},
        fits=fits,
        quantization="Q8_0",
        need_bytes=size_bytes + 500 * MIB,
        tokens_per_s=42.5 if fits else None,
        is_here=False,
    )


class ScriptedLibrary(NoLibrary):
    def __init__(self, *, may_pull: bool = True) -> None:
        super().__init__()
        self.may_pull = may_pull
        self.pulled: list[str] = []
        self.gate = asyncio.Event()  # at which a pull waits, half done

    async def catalog(self) -> Catalog:
        models = (offer(NAME, 200 * MIB, fits=True), offer(LARGE, 8192 * MIB, fits=False))
        return Catalog(usable_bytes=2048 * MIB, may_pull=self.may_pull, models=models)

    async def plan_pull(self, name: str) -> PullPlan:
        return PLAN if name == NAME else NOTHING

    async def pull(self, name: str) -> AsyncGenerator[Progress, None]:
        self.pulled.append(name)
        yield Progress("tiny-Q8_0.gguf", 100 * MIB, 200 * MIB)
        await self.gate.wait()
        yield Progress("tiny-Q8_0.gguf", 200 * MIB, 200 * MIB)
