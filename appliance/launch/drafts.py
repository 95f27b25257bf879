"""Which model drafts, as the settings want it, and which of its files.

Knows no formula and loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import BadSettings
from appliance.fit.plan.budget import readable
from appliance.fit.plan.planner import DraftPlan
from appliance.fit.plan.shape import can_draft_itself
from appliance.launch.spec import ModelSpec
from appliance.settings import ModelSettings
from appliance.store.catalog import load_catalog
from appliance.store.gguf_header import GgufHeader
from appliance.store.model_source import ModelSource

OFF, AUTO = "off", "auto"
ITSELF = "mtp"  # by the model's own heads, as multi-token prediction is called
# of the target's size: more bits than that cost more time than they bring in accepted
# tokens
_MOST_SHARE = 0.2


def draft_spec(spec: ModelSpec, target: ModelSource) -> ModelSpec | None:
    """The draft model alone; None where none is wanted, or `auto` knows none."""
    name = spec.settings.draft
    if name.lower() in (OFF, ITSELF):
        return None
    if name.lower() == AUTO:
        known = load_catalog().draft_of(target.name if target.hub is None else target.hub.repo)
        if known is None:
            return None
        name = known
    return spec.named(name)


def may_draft(settings: ModelSettings) -> bool:
    """Whether tokens may be drafted, by whatever means."""
    return settings.prompt_lookup or settings.draft.lower() != OFF


def drafts_itself(settings: ModelSettings) -> bool:
    """Whether a model that has heads for it drafts with them."""
    return settings.draft.lower() in (AUTO, ITSELF)


def check_heads(settings: ModelSettings, headers: Sequence[GgufHeader]) -> None:
    """Raises `BadSettings` where heads were asked for, and no file has any."""
    if settings.draft.lower() == ITSELF and not any(map(can_draft_itself, headers)):
        raise BadSettings(
            f"--draft {ITSELF} needs a model with heads that draft for it, and "
            f"{headers[0].path.name} has none that can. Give a smaller model of the same family, "
            "or --draft off."
        )


def is_required(settings: ModelSettings) -> bool:
    """Whether the model must not be served without its draft: it was named."""
    return settings.draft.lower() not in (OFF, AUTO)


def choose_file(drafts: Sequence[GgufHeader], targets: Sequence[GgufHeader]) -> GgufHeader:
    """The largest of the draft's files
    that is small beside the target, else the smallest.
    """
    most_bytes = _MOST_SHARE * max(target.num_file_bytes for target in targets)
    small = [draft for draft in drafts if draft.num_file_bytes <= most_bytes]
    return max(small, key=_size) if small else min(drafts, key=_size)


def in_words(draft: DraftPlan) -> str:
    """What a plan does with the draft model, in a sentence."""
    if draft.missing_bytes:
        drafter = f"{draft.path.name} does not draft: it"
        if draft.is_own:
            drafter = "The model's own heads do not draft: they"
        return f"{drafter} would need {readable(draft.missing_bytes)} more memory."
    drafter = f"{draft.path.name} drafts, and sees"
    if draft.is_own:
        drafter = "The model's own heads draft, and see"
    return f"{drafter} at most the last {draft.window} tokens of each request."


def _size(header: GgufHeader) -> int:
    return header.num_file_bytes
