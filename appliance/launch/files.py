"""From settings to a plan: finds the model, converts it if need be, and asks fit.

Knows no serving.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from appliance.errors import ApplianceError, BadModelFile, BadSettings
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import Budget, memory_budget
from appliance.fit.plan.offload import GpuOverrides
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Candidate, Plan, make_plan, weigh
from appliance.fit.plan.search import MAX_DRAFT_ROWS
from appliance.fit.tuning.choices import Tuning
from appliance.launch.checked_plan import checked_plan
from appliance.launch.drafts import OFF, choose_file, draft_settings, is_required
from appliance.launch.machine import gpu_overrides_of
from appliance.llama.checks import DryLoads
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.event import StoreEvent
from appliance.store.gguf_header import GgufHeader
from appliance.store.hub_id import HubId
from appliance.store.models import ModelSource, ModelStore, prepare_files, read_servable_header

DRY_LOADS_FILE_NAME = "dry_loads.json"


@dataclass(frozen=True)
class PreparedModel:
    """A model whose files are there and sound: one header per file, and that of the
    model that drafts for it.
    """

    name: str
    headers: tuple[GgufHeader, ...]
    draft: GgufHeader | None = None


def prepare_model(settings: ServeSettings) -> PreparedModel:
    """Finds the model that `settings` name and converts it where needed, telling
    progress on stderr.

    Raises `BadSettings`, also for a repository of which nothing is here
    (`launch/hub_choice.py` pulls it), `BadModelFile`, `ConversionFailed` or
    `SetupError`.
    """
    source = find_source(settings)
    model = prepare_source(source, settings.quant)
    return replace(model, draft=_prepared_draft(settings, source, model.headers))


def _prepared_draft(
    settings: ServeSettings, target: ModelSource, headers: Sequence[GgufHeader]
) -> GgufHeader | None:
    """Raises as `prepare_source` does, unless the draft was not named: then there is none."""
    wanted = draft_settings(settings, target)
    if wanted is None:
        return None
    try:
        return choose_file(prepare_source(find_source(wanted), None).headers, headers)
    except ApplianceError as error:
        if is_required(settings):
            raise
        print(f"--draft auto: {error.message}", file=sys.stderr)
        return None


def find_source(settings: ServeSettings) -> ModelSource:
    """What is here of the model that `settings` name. Raises `BadSettings` or `BadModelFile`."""
    store = ModelStore(settings.models_dir, load_catalog())
    source = store.resolve(settings.first_model)
    return (
        source
        if source.hub is None
        else store.resolve_hub(wanted_of_hub(source.hub, settings.quant))
    )


def wanted_of_hub(hub_id: HubId, quant: str | None) -> HubId:
    """A repository's name with the choice that --quant makes.

    Raises `BadSettings` if it names another.
    """
    if quant is None:
        return hub_id
    if hub_id.choice is not None and hub_id.choice.upper() != quant:
        raise BadSettings(f"{hub_id} and --quant {quant} contradict each other: give one of them.")
    return HubId(hub_id.repo, quant)


def prepare_source(source: ModelSource, quant: str | None) -> PreparedModel:
    """Converts where needed, and reads the headers. Raises what `prepare_model` raises."""
    if source.must_be_pulled:
        raise BadSettings(
            f"Nothing of {source.hub} is here. `appliance pull {source.hub}` fetches it."
        )
    files = prepare_files(source, quant, EventLines(sys.stderr))
    return PreparedModel(source.name, _servable_headers(files))


def _servable_headers(files: Sequence[Path]) -> tuple[GgufHeader, ...]:
    """Of the sound files: a damaged one is told and left out.

    Raises `BadModelFile` if there is no other.
    """
    headers: list[GgufHeader] = []
    complaints: list[BadModelFile] = []
    for path in files:
        try:
            headers.append(read_servable_header(path))
        except BadModelFile as error:
            complaints.append(error)
    if complaints and not headers:
        raise complaints[0]
    for complaint in complaints:
        print(f"left out: {complaint.message}", file=sys.stderr)
    return tuple(headers)


def plan_model(
    settings: ServeSettings,
    model: PreparedModel,
    device: Device,
    tuning: Tuning,
    gpu_overrides: GpuOverrides | None = None,
    budget: Budget | None = None,
) -> Plan:
    """The plan for serving `model` on `device`; what the user set goes before `tuning`.

    `gpu_overrides` takes the place of what `settings` say of GPUs, `budget` of what is free.
    Raises `BadSettings` or `NothingFits`.
    """
    overrides, tuning = overrides_of(settings, gpu_overrides), with_own_choices(tuning, settings)

    def plan_within(budget: Budget) -> Plan:
        return make_plan(model.headers, overrides, device, budget, tuning, model.draft)

    dry_loads = DryLoads(settings.state_dir / DRY_LOADS_FILE_NAME)
    return checked_plan(plan_within, budget or memory_budget(device, settings.ram), dry_loads)


def estimate_plan(
    settings: ServeSettings, model: PreparedModel, device: Device, tuning: Tuning, budget: Budget
) -> Plan:
    """The same by arithmetic alone: at once, and a few per cent off.

    Raises what `plan_model` raises.
    """
    tuning = with_own_choices(tuning, settings)
    return make_plan(model.headers, overrides_of(settings), device, budget, tuning, model.draft)


def with_own_choices(tuning: Tuning, settings: ServeSettings) -> Tuning:
    """`tuning` with what the user has set of it."""
    return tuning.with_values(
        {field: value for field, value in _own_choices(settings).items() if value is not None}
    )


def chosen_by_user(settings: ServeSettings) -> frozenset[str]:
    """The fields of `Tuning` that the user has set."""
    return frozenset(field for field, value in _own_choices(settings).items() if value is not None)


def _own_choices(settings: ServeSettings) -> dict[str, bool | int | None]:
    """By field of `Tuning`; who sets --threads alone means both."""
    return {
        "threads": settings.threads,
        "batch_threads": settings.batch_threads or settings.threads,
        "flash_attention": settings.flash_attention,
        "ubatch_rows": settings.ubatch_rows,
        "use_mmap": settings.mmap,
    }


def weigh_model(
    settings: ServeSettings, model: PreparedModel, device: Device
) -> tuple[Candidate, ...]:
    """What each choice would take where none fits. Raises `BadSettings`."""
    return weigh(model.headers, overrides_of(settings), device, memory_budget(device, settings.ram))


def overrides_of(settings: ServeSettings, gpu_overrides: GpuOverrides | None = None) -> Overrides:
    """What the user has set of a plan; `gpu_overrides` takes the place of what `settings` say of GPUs."""
    gpu = gpu_overrides or gpu_overrides_of(settings)
    return Overrides(
        slots=settings.slots,
        max_batch_rows=settings.max_batch_rows,
        ctx=settings.ctx,
        kv_cells=settings.kv_cells,
        quant=settings.quant,
        kv_type=settings.kv_type or ("f16" if settings.flash_attention is False else None),
        ram=settings.ram,
        threads=settings.threads,
        max_body_bytes=settings.max_body_bytes,
        max_draft_rows=MAX_DRAFT_ROWS
        if settings.prompt_lookup or settings.draft.lower() != OFF
        else 0,
        gpu=gpu,
    )


class EventLines:
    """Tells how fetching and converting go: one line that is overwritten on a terminal,
    a line per tenth elsewhere.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told_tenth = 0
        self._text = ""

    def __call__(self, event: StoreEvent) -> None:
        if event.text != self._text:
            self._text, self._told_tenth = event.text, 0
        if event.total_bytes == 0:
            self._out.write(f"{event.text}\n")
        elif self._out.isatty():
            end = "\n" if event.done_bytes >= event.total_bytes else ""
            self._out.write(f"\r{self._line(event)}{end}")
        elif 10 * event.done_bytes // event.total_bytes > self._told_tenth:
            self._told_tenth = 10 * event.done_bytes // event.total_bytes
            self._out.write(f"{self._line(event)}\n")
        self._out.flush()

    @staticmethod
    def _line(event: StoreEvent) -> str:
        return f"{event.text}: {100 * event.done_bytes // event.total_bytes:3d} % of {event.total_bytes / 1e6:.1f} MB"
