"""The word `auto` in the place of a model: the best chat model that fits this machine.

Knows no rule of what is best. Asks no hub: what is chosen is downloaded as any other.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

from appliance.cli.catalog.available import offers_for
from appliance.errors import NothingFits
from appliance.fit.machine.device import measure_device
from appliance.fit.plan.budget import memory_budget, readable
from appliance.launch.library.recipes import AUTO
from appliance.launch.machine import recall_bandwidth
from appliance.launch.offers import Offer, best_chat_model
from appliance.settings import ServeSettings


def with_auto(settings: ServeSettings, say: Callable[[str], None]) -> ServeSettings:
    """The same with a model's name for `auto`, where that is named; `say` is told why, and
    how much will be downloaded.

    Raises `NothingFits`.
    """
    if AUTO not in settings.model:
        return settings
    chosen = _choose(settings, say)
    return replace(
        settings,
        model=tuple(chosen if name == AUTO else name for name in settings.model),
    )


def _choose(settings: ServeSettings, say: Callable[[str], None]) -> str:
    # in a child: NumPy is not for a server's memory
    command = [sys.executable, "-m", "appliance.cli.catalog.measure", str(settings.state_dir)]
    subprocess.run(command, check=False)
    device = recall_bandwidth(measure_device(), settings.state_dir)
    found = offers_for(settings, device)
    best = best_chat_model(found)
    budget = memory_budget(device, settings.ram)
    if best is None:
        smallest = min(found, key=lambda offer: offer.need_bytes)
        raise NothingFits(
            f"Nothing of the catalog fits: the smallest model ({smallest.model.name}) takes about "
            f"{readable(smallest.need_bytes)}, and {readable(budget.usable_bytes)} can be used "
            f"({budget.explanation}). Free some memory, or name a smaller model."
        )
    say(f"auto: {best.model.name} {_reason(best, budget.usable_bytes)}")
    return best.model.name


def _reason(offer: Offer, usable_bytes: int) -> str:
    speed = "" if offer.tokens_per_s is None else f", at most {offer.tokens_per_s:.0f} tokens/s"
    source = (
        "it is here already"
        if offer.is_here
        else f"{readable(offer.file_bytes)} will be downloaded from {offer.model.repository}"
    )
    return (
        f"({offer.model.licence}) is the best chat model that fits: {offer.quantization} takes "
        f"about {readable(offer.need_bytes)} of {readable(usable_bytes)}{speed}; {source}"
    )
