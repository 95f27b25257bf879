"""From a model's name to its files: finds them, and converts a checkpoint where needed.

Knows no plan and no machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import ApplianceError, BadModelFile, BadSettings
from appliance.fit.plan.shape import can_draft_itself
from appliance.launch.adapters import fitting
from appliance.launch.drafts import (
    AUTO,
    check_heads,
    choose_file,
    draft_spec,
    drafts_itself,
    is_required,
)
from appliance.launch.spec import ModelSpec
from appliance.protocol.adapters import AdapterFile
from appliance.store.catalog import load_catalog
from appliance.store.event import OnEvent, StoreEvent
from appliance.store.gguf_header import GgufHeader
from appliance.store.hub_id import HubId
from appliance.store.model_source import ModelSource
from appliance.store.models import (
    ModelStore,
    are_prepared,
    prepare_files,
)
from appliance.store.servable import read_servable_header


@dataclass(frozen=True)
class PreparedModel:
    """A model whose files are there and sound."""

    name: str
    headers: tuple[GgufHeader, ...]  # one for each file
    draft: GgufHeader | None = None  # of the model that drafts for it
    adapters: tuple[AdapterFile, ...] = ()


def find_source(spec: ModelSpec) -> ModelSource:
    """What is here of the model that `spec` names.

    Raises `BadSettings`, `BadModelFile` or `SetupError`.
    """
    store = ModelStore(spec.models_dir, load_catalog())
    source = store.resolve(spec.argument)
    if source.hub is None:
        return source
    return store.resolve_hub(hub_id_with_quant(source.hub, spec.settings.quant))


def hub_id_with_quant(hub_id: HubId, quant: str | None) -> HubId:
    """A repository's name with the choice that --quant makes.

    Raises `BadSettings` if it names another.
    """
    if quant is None:
        return hub_id
    if hub_id.choice is not None and hub_id.choice.upper() != quant:
        raise BadSettings(f"{hub_id} and --quant {quant} contradict each other. Use only one.")
    return replace(hub_id, choice=quant)


def is_prepared(spec: ModelSpec) -> bool:
    """Whether all files are here already, the draft's too.

    Raises what `find_source` raises.
    """
    source = find_source(spec)
    draft = draft_spec(spec, source)
    return are_prepared(source, spec.settings.quant) and (
        draft is None or are_prepared(find_source(draft), None)
    )


def prepare_model(spec: ModelSpec, on_event: OnEvent) -> PreparedModel:
    """Finds the model that `spec` names and converts it where needed.

    Raises `BadSettings`, also for a repository that has not been downloaded
    (`launch/pulling.py` does that), `BadModelFile`, `ConversionFailed` or `SetupError`.
    """
    source = find_source(spec)
    model = prepare_source(source, spec.settings.quant, on_event)
    return replace(
        model,
        draft=_prepared_draft(spec, source, model.headers, on_event),
        adapters=fitting(spec.adapters, model.headers),
    )


def prepare_source(source: ModelSource, quant: str | None, on_event: OnEvent) -> PreparedModel:
    """Converts where needed, and reads the headers.

    Raises what `prepare_model` raises.
    """
    if source.must_be_pulled:
        raise BadSettings(
            f"{source.hub} has not been downloaded yet. Run 'appliance pull {source.hub}'."
        )
    files = prepare_files(source, quant, on_event)
    return PreparedModel(source.name, _servable_headers(files, on_event))


def _prepared_draft(
    spec: ModelSpec, target: ModelSource, headers: Sequence[GgufHeader], on_event: OnEvent
) -> GgufHeader | None:
    """Raises as `prepare_source` does,
    unless the draft was not named: then there is none.
    """
    check_heads(spec.settings, headers)
    if drafts_itself(spec.settings) and any(map(can_draft_itself, headers)):
        return None
    wanted = draft_spec(spec, target)
    if wanted is None:
        if spec.settings.draft.lower() == AUTO:
            text = f"--draft auto: the catalog knows no smaller sibling of {target.name}"
            on_event(StoreEvent(text))
        return None
    try:
        return choose_file(prepare_source(find_source(wanted), None, on_event).headers, headers)
    except ApplianceError as error:
        if is_required(spec.settings):
            raise
        on_event(StoreEvent(f"--draft auto: {error.message}", is_warning=True))
        return None


def _servable_headers(files: Sequence[Path], on_event: OnEvent) -> tuple[GgufHeader, ...]:
    """Of the sound files: a damaged one is reported and left out.

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
        on_event(StoreEvent(f"left out: {complaint.message}", is_warning=True))
    return tuple(headers)
