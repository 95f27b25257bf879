"""From the settings to how the model `auto` chooses. Knows no model."""

from __future__ import annotations

import math

from appliance.errors import BadSettings
from appliance.gateway.tiers.rules import AutoRules
from appliance.settings import ServeSettings
from appliance.settings.auto_options import NO_TIERS


def auto_rules(settings: ServeSettings) -> AutoRules:
    """Raises `BadSettings` where a word takes another one's meaning."""
    tiers, least = settings.auto_tiers, settings.auto_min_probability
    is_on = NO_TIERS not in tiers
    if not is_on and len(tiers) > 1:
        raise BadSettings(
            f"--auto-tiers {NO_TIERS} cannot be combined with a model. Use only one of them."
        )
    if len(set(tiers)) < len(tiers):
        raise BadSettings("--auto-tiers names a model twice: name each once, the smallest first.")
    return AutoRules(
        tiers=tiers if is_on else (),
        is_on=is_on,
        thresholds=tuple(sorted(settings.auto_thresholds)) or None,
        min_logprob=math.log(least) if least else None,
    )
