"""Models that are served from now on, or no longer: router, manager and loader together.

Knows no file and no hub.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from appliance.gateway.library.facts import ModelDefaults
from appliance.gateway.manager import ModelManager, Terms
from appliance.gateway.router import Router, ServedModel
from appliance.launch.adapters import served_adapters
from appliance.launch.library.reading import KnownFacts
from appliance.launch.loader import ModelLoader
from appliance.launch.names import NamedModel
from appliance.launch.spec import ModelSpec


@dataclass(frozen=True)
class Entry:
    """A model that is served."""

    model: ServedModel
    spec: ModelSpec
    loaded_as: str  # the id of what is loaded for it, which others may share


class Serving:
    """What a server serves; it begins with `models`."""

    def __init__(
        self,
        *,
        models: Sequence[NamedModel],
        router: Router,
        manager: ModelManager,
        loader: ModelLoader,
        keep_alive_s: float,
    ) -> None:
        """`keep_alive_s` is that of models which come later."""
        self._router = router
        self._manager = manager
        self._loader = loader
        self._keep_alive_s = keep_alive_s
        self._entries = {
            named.id: Entry(router.resolve(named.id), named.spec, named.id) for named in models
        }

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def entry(self, model_id: str) -> Entry | None:
        return self._entries.get(model_id)

    def add(
        self,
        model_id: str,
        spec: ModelSpec,
        aliases: tuple[str, ...] = (),
        defaults: ModelDefaults | None = None,
    ) -> None:
        """A model of its own. Names that others have are no aliases of it."""
        loaded_as = self._free_id(model_id)
        managed = self._manager.add(Terms(loaded_as, self._keep_alive_s))
        self._loader.add(loaded_as, spec)
        model = ServedModel(
            id=model_id,
            client=managed,
            created=int(time.time()),
            aliases=tuple(alias for alias in aliases if self._router.find(alias) is None),
            load_report=managed.report,
            stay=managed.stay,
            defaults=defaults or ModelDefaults(),
            adapters=served_adapters(spec.adapters),
            facts=KnownFacts(spec),
        )
        self._router.add(model)
        self._entries[model_id] = Entry(model, spec, loaded_as)

    def _free_id(self, model_id: str) -> str:
        """A model whose name is free may still be loaded, for a copy of it."""
        taken = {entry.loaded_as for entry in self}
        return model_id if model_id not in taken else self._free_id(f"{model_id}~")

    def share(self, model_id: str, source: Entry, defaults: ModelDefaults) -> None:
        """Another name and other defaults for what is loaded for `source`."""
        model = replace(
            source.model, id=model_id, aliases=(), created=int(time.time()), defaults=defaults
        )
        self._router.add(model)
        self._entries[model_id] = Entry(model, source.spec, source.loaded_as)

    async def remove(self, entry: Entry) -> bool:
        """Returns whether nobody else needs what was loaded for it, which is unloaded
        then.
        """
        self._router.remove(entry.model)
        del self._entries[entry.model.id]
        if any(other.loaded_as == entry.loaded_as for other in self):
            return False
        await self._manager.remove(entry.loaded_as)
        self._loader.remove(entry.loaded_as)
        return True
