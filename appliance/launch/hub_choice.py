"""Which file of a hub's repository to fetch: joins what the hub has with what fits.

Knows no formula and no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import BadModelFile, BadSettings
from appliance.fit.plan.planner import Plan
from appliance.launch.files import PreparedModel, find_source
from appliance.launch.spec import ModelSpec
from appliance.store.catalog import load_catalog
from appliance.store.copies.stick import recorded_gguf
from appliance.store.event import OnEvent, StoreEvent
from appliance.store.gguf_header import GgufHeader
from appliance.store.hub.client import list_repository
from appliance.store.hub.records import Repository
from appliance.store.hub_contents import GgufFiles, HubGguf, find_gguf_files
from appliance.store.hub_id import HubId, matching
from appliance.store.model_source import ModelSource
from appliance.store.models import DEFAULT_TYPES, ModelStore
from appliance.store.pull import Destination, pull_checkpoint, pull_gguf
from appliance.store.remote_headers import plan_conversion, read_remote_header
from appliance.store.servable import check_servable, read_servable_header


@dataclass(frozen=True)
class RemoteModel:
    """A repository as if all that can be served of it were here: `files` by the path
    that they would have.

    There are none where it is a checkpoint; then the headers are of what that would be
    converted to.
    """

    model: PreparedModel
    repository: Repository
    files: Mapping[Path, HubGguf]


def look(spec: ModelSpec, on_event: OnEvent) -> RemoteModel:
    """Raises `BadSettings` where there is no such repository or choice, `BadModelFile`
    and `PullFailed`.
    """
    return look_at(find_source(spec), on_event)


def look_in(directory: Path, hub_id: HubId, on_event: OnEvent) -> RemoteModel | None:
    """The same of what a models directory from another machine has of a repository, without
    asking the hub; None where it has no model in GGUF of it.

    Raises `BadModelFile` for damaged files.
    """
    source = ModelStore(directory, load_catalog()).resolve_hub(hub_id)
    found = {path: recorded for path in source.files if (recorded := recorded_gguf(path))}
    if source.checkpoint is not None or not found:
        return None
    on_event(StoreEvent(f"{hub_id.repo} is in {directory}: the hub is not asked"))
    headers = tuple(read_servable_header(path) for path in found)
    [repository, *_] = [repository for repository, _model in found.values()]
    files = {path: model for path, (_repository, model) in found.items()}
    return RemoteModel(PreparedModel(source.name, headers), repository, files)


def look_at(source: ModelSource, on_event: OnEvent) -> RemoteModel:
    """The same for a repository that was found already."""
    assert source.hub is not None
    repository = list_repository(source.hub.repo, source.hub.revision)
    ggufs = find_gguf_files(repository)
    if ggufs.models or ggufs.missing:
        return _look_at_ggufs(repository, ggufs, source, on_event)
    types = DEFAULT_TYPES if source.hub.choice is None else (source.hub.choice.upper(),)
    on_event(StoreEvent(f"reading the description of {repository.id}"))
    headers = plan_conversion(repository, types, source.directory, source.name)
    return RemoteModel(PreparedModel(source.name, headers), repository, {})


def fetch(
    spec: ModelSpec,
    remote: RemoteModel,
    plan: Plan,
    on_event: OnEvent,
    *,
    from_dir: Path | None = None,
) -> None:
    """Fetches what `plan` would serve; files that `from_dir` has are copied from there.

    Raises what `pull_gguf` and `pull_checkpoint` raise.
    """
    reserved = ModelStore(spec.models_dir, load_catalog()).reserved_names
    to = Destination(spec.models_dir, reserved, () if from_dir is None else (from_dir,))
    if remote.files:
        pull_gguf(remote.repository, remote.files[plan.model_path], to, on_event)
        return
    (header,) = (header for header in remote.model.headers if header.path == plan.model_path)
    pull_checkpoint(remote.repository, {plan.quantization: header.num_file_bytes}, to, on_event)


def _look_at_ggufs(
    repository: Repository, ggufs: GgufFiles, source: ModelSource, on_event: OnEvent
) -> RemoteModel:
    assert source.hub is not None
    candidates = _named(ggufs, source.hub)
    on_event(StoreEvent(f"reading the headers of {repository.id}: {len(candidates)}"))
    headers = _chosen(
        _servable(repository, candidates, source.directory, on_event), ggufs, source.hub
    )
    _check_one_model(headers, repository)
    files = {headers[model.name].path: model for model in candidates if model.name in headers}
    return RemoteModel(PreparedModel(source.name, tuple(headers.values())), repository, files)


def _named(ggufs: GgufFiles, hub_id: HubId) -> tuple[HubGguf, ...]:
    """The models that the choice names, where their names tell; else all whole ones.

    Raises `BadSettings`.
    """
    if not ggufs.models:
        raise _incomplete(hub_id, ggufs.missing[0])
    if hub_id.choice is None:
        return ggufs.models
    named = set(matching(hub_id.choice, {model.name: None for model in ggufs.models}))
    return tuple(model for model in ggufs.models if model.name in named) or ggufs.models


def _servable(
    repository: Repository, models: Sequence[HubGguf], directory: Path, on_event: OnEvent
) -> dict[str, GgufHeader]:
    """By the models' names; what is damaged, an adapter
    and the like is told and left out.

    Raises `BadModelFile` if nothing else is there.
    """
    servable: dict[str, GgufHeader] = {}
    complaint: BadModelFile | None = None
    for model in models:
        try:
            header = read_remote_header(repository, model, directory)
            check_servable(header)
            if any(header.path == other.path for other in servable.values()):
                raise BadModelFile(f"{model.name} has the name of another file there.")
            servable[model.name] = header
        except BadModelFile as error:
            complaint = error
            on_event(StoreEvent(f"left out: {error.message}", is_warning=True))
    if complaint is not None and not servable:
        raise complaint
    return servable


def _chosen(
    headers: Mapping[str, GgufHeader], ggufs: GgufFiles, hub_id: HubId
) -> dict[str, GgufHeader]:
    """Raises `BadSettings` listing what there is."""
    if hub_id.choice is None:
        return dict(headers)
    chosen = matching(
        hub_id.choice, {name: header.quantization for name, header in headers.items()}
    )
    if chosen:
        return {name: headers[name] for name in chosen}
    missing = [name for name in ggufs.missing if hub_id.choice.lower() in name.lower()]
    if missing:
        raise _incomplete(hub_id, missing[0])
    there = ", ".join(f"{header.quantization} ({name})" for name, header in headers.items())
    raise BadSettings(f"{hub_id.repo} has no {hub_id.choice}. There are: {there}.")


def _incomplete(hub_id: HubId, missing: str) -> BadSettings:
    return BadSettings(
        f"{hub_id} is split over several files, of which {missing} is missing in the repository. "
        "Choose another one."
    )


def _check_one_model(headers: Mapping[str, GgufHeader], repository: Repository) -> None:
    """Files of different models have no order of quality. Raises `BadSettings`."""
    models: dict[tuple[object, ...], str] = {}
    for name, header in headers.items():
        keys = (f"{header.architecture}.block_count", f"{header.architecture}.embedding_length")
        models.setdefault((header.architecture, *(header.integer(key, 0) for key in keys)), name)
    if len(models) > 1:
        raise BadSettings(
            f"{repository.id} holds several models, such as {' and '.join(models.values())}. Name "
            f"one by the end of its file's name: {repository.id}:END."
        )
