"""From the name in a request to the model that answers it, of those its caller may use.

Knows no keys and no HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from appliance.errors import BadSettings, ModelNotFound
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.adapters import NO_ADAPTERS, ModelAdapters
from appliance.gateway.library.facts import ModelDefaults, ModelFacts
from appliance.gateway.managed_model import LoadReport
from appliance.gateway.tiers.rules import AutoRules
from appliance.protocol.health import WorkerState
from appliance.worker.client import Client

AUTO = "auto"  # the name of whichever model a request needs

_ADAPTER = ":"  # between the name of a model and that of its adapter
_NO_AUTO = " It chooses among two models or more that make text and whose files are here."
_MAX_ECHOED_CHARS = 100  # of a name we do not know, in the error that says so


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model as clients see it."""

    id: str  # answers carry it, whichever of its names was asked for
    client: Client
    created: int  # Unix seconds
    aliases: tuple[str, ...] = ()
    load_report: Callable[[], LoadReport] | None = None  # None: it is always loaded
    # loads it for so many seconds of idleness, see `ManagedModel.stay`; None likewise
    stay: Callable[[float | None], Awaitable[None]] | None = None
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    adapters: ModelAdapters = NO_ADAPTERS
    # The adapter that requests for it are computed with, where its id is that of another
    # model and this: see `with_adapter`.
    adapter: str = ""
    facts: Callable[[], ModelFacts] | None = None  # of its file; None: they are not known
    tiers: Tiers | None = None  # of the model `auto` alone, which is one of these
    replicas: Callable[[], Sequence[ReplicaReport]] | None = None  # of a fleet's model alone

    @property
    def itself(self) -> ServedModel:
        """The model that is asked what nothing is to be chosen for: of `auto` the smallest."""
        return self if self.tiers is None else self.tiers.usable[0]

    @property
    def is_loaded(self) -> bool:
        return self.client.health().state is WorkerState.READY

    @property
    def base_id(self) -> str:
        """Its id, without an adapter."""
        return self.id.removesuffix(f"{_ADAPTER}{self.adapter}") if self.adapter else self.id

    def with_adapter(self, name: str) -> ServedModel:
        """This model, as it is named together with one of its adapters."""
        return replace(self, id=f"{self.id}{_ADAPTER}{name}", adapter=name)

    def is_named(self, names: Collection[str]) -> bool:
        """By its id or an alias; whoever may use a model may use its adapters."""
        return self.base_id in names or any(alias in names for alias in self.aliases)


@dataclass(frozen=True, kw_only=True)
class ReplicaReport:
    """One of the replicas that answer for a fleet's model, as it said last."""

    node: str
    state: str
    quantization: str | None  # None while it has loaded nothing, like the next two
    ctx: int | None
    slots: int | None
    choice: str  # of its plan, in words
    predicted_bytes: int
    num_running: int
    num_waiting: int
    num_restarts: int
    last_error: str | None


@dataclass(frozen=True, kw_only=True)
class Tiers:
    """The models of which `auto` is one, the smallest first; None stands for one that the
    caller may not use, so that a request needs the same tier whoever asks.
    """

    models: tuple[ServedModel | None, ...]
    rules: AutoRules

    @property
    def usable(self) -> tuple[ServedModel, ...]:
        """At least one."""
        return tuple(model for model in self.models if model is not None)


class Models:
    """Models by id and alias; the first one answers requests that name none."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Raises `BadSettings` when two share a name."""
        self._models = tuple(models)
        self._by_name: dict[str, ServedModel] = {}
        for model in models:
            for name in (model.id, *model.aliases):
                self._add(name, model)

    @property
    def models(self) -> tuple[ServedModel, ...]:
        return self._models

    @property
    def listed(self) -> tuple[ServedModel, ...]:
        """As lists show them: with `auto`, where it can choose."""
        auto = self.auto
        can_choose = auto is not None and auto.tiers is not None and len(auto.tiers.usable) > 1
        return (*self._models, auto) if auto is not None and can_choose else self._models

    @property
    def distinct(self) -> tuple[ServedModel, ...]:
        """The first of each that share what is loaded for them."""
        first: dict[int, ServedModel] = {}
        for model in self._models:
            first.setdefault(id(model.client), model)
        return tuple(first.values())

    def resolve(self, name: str | None) -> ServedModel:
        """The model called `name`, or the default one for None; raises `ModelNotFound`
        naming those there are.

        Loads nothing: that is done when a request is put to the model's client.
        """
        if name is None and self._models:
            return self._models[0]
        if name is None:
            raise ModelNotFound(self._no_model)
        if (model := self.find(name)) is not None:
            return model
        shown = name if len(name) <= _MAX_ECHOED_CHARS else name[:_MAX_ECHOED_CHARS] + "..."
        self._check_base(name.rpartition(_ADAPTER)[0], shown)
        known = ", ".join(f"'{known}'" for known in self._by_name) or "none"
        raise ModelNotFound(
            f"The model '{shown}' is not served here{self._to_whom}. Served: {known}."
            f"{_NO_AUTO if name == AUTO else ''}",
            param="model",
        )

    def _check_base(self, base: str, shown: str) -> None:
        """Raises `ModelNotFound` where it is the adapter that is unknown."""
        model = self._by_name.get(base)
        if model is None or not model.adapters.all:
            return
        names = ", ".join(f"'{base}{_ADAPTER}{each.name}'" for each in model.adapters.all)
        raise ModelNotFound(
            f"The model '{shown}' is not served here{self._to_whom}: '{base}' has no such adapter. "
            f"With its adapters it is called {names}; without one, '{base}'.",
            param="model",
        )

    @property
    def auto(self) -> ServedModel | None:
        """The model `auto`; None where there is nothing to choose from, or a model has that
        name itself.
        """
        tiers = None if AUTO in self._by_name else self._tiers()
        if tiers is None or not tiers.usable:
            return None
        first = tiers.usable[0]
        return ServedModel(id=AUTO, client=first.client, created=first.created, tiers=tiers)

    def _tiers(self) -> Tiers | None:
        return None

    def find(self, name: str) -> ServedModel | None:
        """By its name, or that and the name of one of its adapters."""
        if (model := self._by_name.get(name)) is not None:
            return model
        if name == AUTO:
            return self.auto
        base, _, adapter = name.rpartition(_ADAPTER)
        model = self._by_name.get(base)
        if model is None or model.adapters.find(adapter) is None:
            return None
        return model.with_adapter(adapter)

    _no_model = "There is no model here any more: pull or create one."
    _to_whom = ""

    def _add(self, name: str, model: ServedModel) -> None:
        if not name:
            raise BadSettings("A served model needs a name.")
        if self._by_name.setdefault(name, model) is not model:
            raise BadSettings(
                f"Two served models share the name '{name}'. Rename the file or folder of one of "
                "them, or change the --alias."
            )

    def _check_adapters(self, model: ServedModel) -> None:
        """Raises `BadSettings` where a model has the name of this one with an adapter."""
        for adapter in model.adapters.all:
            for name in (model.id, *model.aliases):
                if (full := f"{name}{_ADAPTER}{adapter.name}") in self._by_name:
                    raise BadSettings(
                        f"'{full}' is both a served model's name and that of '{name}' with its "
                        f"adapter {adapter.name}. Change the --alias, or the adapter's name."
                    )


class ModelsOfCaller(Models):
    """Those that one caller may use: the others are not there for it."""

    def __init__(
        self, models: Sequence[ServedModel], all_tiers: Callable[[], Tiers | None]
    ) -> None:
        """`all_tiers`: those of whoever may use all models."""
        super().__init__(models)
        self._all_tiers = all_tiers

    def _tiers(self) -> Tiers | None:
        if (tiers := self._all_tiers()) is None:
            return None
        own = (model if model in self._models else None for model in tiers.models)
        return replace(tiers, models=tuple(own))

    _no_model = "This API key may use none of the models here."
    _to_whom = " to this API key"


class Router(Models):
    """The served models, which may come and go."""

    def __init__(self, models: Sequence[ServedModel], auto: AutoRules | None = None) -> None:
        """`auto`: how the model `auto` chooses; None: as is usual.

        Raises `BadSettings` when there is no model, when two share a name, or when there is
        no model of a name that `auto` is to choose from.
        """
        if not models:
            raise BadSettings("There is no model to serve.")
        super().__init__(models)
        for model in models:
            self._check_adapters(model)
        self._auto = auto or AutoRules()
        for name in self._auto.tiers:
            if name not in self._by_name:
                served = ", ".join(model.id for model in models)
                raise BadSettings(
                    f"--auto-tiers: there is no model '{name}' here. The models are: {served}."
                )

    def _tiers(self) -> Tiers | None:
        """None for fewer than two."""
        rules = self._auto
        named = (self._by_name.get(name) for name in rules.tiers)
        tiers = [model for model in named if model is not None] if rules.tiers else self._by_size()
        if len(tiers) < 2 or not rules.is_on:
            return None
        return Tiers(models=tuple(tiers), rules=rules)

    def _by_size(self) -> list[ServedModel]:
        """Those that make text, by parameters and then by bytes; what has no file yet has no
        size, and is left out.
        """
        known = [(model.facts(), model) for model in self.distinct if model.facts is not None]
        texts = [each for each in known if each[0].num_bytes and not each[0].embeds]
        texts.sort(key=lambda each: (each[0].num_params, each[0].num_bytes))
        return [model for _, model in texts]

    def models_of(self, caller: Caller) -> Models:
        """What this caller may use, by the names that its limits allow."""
        allowed = caller.limits.models
        if allowed is None:
            return self
        own = [model for model in self._models if model.is_named(allowed)]
        return ModelsOfCaller(own, self._tiers)

    def add(self, model: ServedModel) -> None:
        """From now on it is served too. Raises `BadSettings` where another one has one of
        its names; then nothing has changed.
        """
        names = dict.fromkeys((model.id, *model.aliases))
        for name in names:
            if self.find(name) is not None:
                raise BadSettings(f"Another model is called '{name}' already.")
        self._check_adapters(model)
        for name in names:
            self._add(name, model)
        self._models = (*self._models, model)

    def remove(self, model: ServedModel) -> None:
        """From now on it is not served; requests in flight go on."""
        self._models = tuple(each for each in self._models if each is not model)
        self._by_name = {name: each for name, each in self._by_name.items() if each is not model}
