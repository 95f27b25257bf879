"""The models of a server as files: what is known of each, and how they come and go.

Knows no HTTP and no wire format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from appliance.errors import (
    ApplianceError,
    BadModelFile,
    BadRequest,
    BadSettings,
    ModelNotFound,
    NotAllowed,
)
from appliance.gateway.library.changes import Progress, Recipe
from appliance.gateway.library.facts import ModelDefaults, ModelFacts
from appliance.gateway.library.offers import Catalog, PullPlan
from appliance.gateway.router import ServedModel
from appliance.launch.files import find_source, is_prepared, prepare_source
from appliance.launch.library.blobs import Blobs
from appliance.launch.library.catalog import catalog_for
from appliance.launch.library.materials import materials_in
from appliance.launch.library.progress import reported
from appliance.launch.library.reading import facts_of
from appliance.launch.library.recipes import CreatedModel, CreatedModels, new_name
from appliance.launch.library.removal import remove_files
from appliance.launch.library.served import Entry, Serving
from appliance.launch.prepare_child import plan_in_child, prepare_in_child
from appliance.launch.spec import ModelSpec
from appliance.store.hub_id import HubId
from appliance.store.known.names import find_repository
from appliance.worker.heap import trim_heap

Result = TypeVar("Result")
_BLOBS = ".blobs"  # of the models directory
_LATEST = ":latest"
_ANY = "any"  # in the place of a model, of which only the places and the budget are wanted


@dataclass(frozen=True, kw_only=True)
class Changing:
    """What it takes to let models come and go."""

    serving: Serving
    models_dir: Path
    # for an id, and how the model is named on the command line; raises `BadSettings`
    spec_of: Callable[[str, str], ModelSpec]
    is_allowed: bool


class ModelLibrary:
    """Implements `Library`.

    Files are read in one thread: the C library keeps freed memory for each thread that
    ever took some.
    """

    def __init__(self, changing: Changing) -> None:
        self._serving = changing.serving
        self._models_dir = changing.models_dir
        self._spec_of = changing.spec_of
        self._is_allowed = changing.is_allowed
        self._blobs = Blobs(changing.models_dir / _BLOBS)
        self._created = CreatedModels(changing.models_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="library")
        self._facts: dict[str, tuple[ModelSpec, ModelFacts]] = {}  # of those that have a file
        self._turn = asyncio.Lock()  # one change of names at a time

    # --- what is known ----------------------------------------------------------------

    async def facts(self, model_id: str) -> ModelFacts:
        entry = self._serving.entry(model_id)
        if entry is None:
            return ModelFacts()
        spec = entry.spec
        known = self._facts.get(model_id)
        if known is not None and known[0] is spec:
            return known[1]
        facts = await self._in_thread(lambda: facts_of(spec))
        if facts.architecture:
            self._facts[model_id] = (spec, facts)
        return facts

    # --- models that come -------------------------------------------------------------

    async def catalog(self) -> Catalog:
        spec = self._spec_of(_ANY, _ANY)
        return await self._in_thread(lambda: catalog_for(spec, may_pull=self._is_allowed))

    async def plan_pull(self, name: str) -> PullPlan:
        hub_id = self._to_be_pulled(name)
        if hub_id is None:
            return PullPlan(model=name, repository="", is_here=True)
        spec = self._spec_of(str(hub_id), str(hub_id))
        return await plan_in_child(spec, lambda _event: None)

    def _to_be_pulled(self, name: str) -> HubId | None:
        """None where it is here. Raises `NotAllowed` and `ModelNotFound`."""
        self._check_allowed()
        wanted = _plain(name)
        served = self._served(wanted)
        hub_id = find_repository(wanted)
        if hub_id is None and served is None:
            raise ModelNotFound(
                f"'{name[:100]}' is no repository of a hub, which is where models are pulled "
                "from: name it org/repo or org/repo:QUANT, also as hf.co/org/repo.",
                param="model",
            )
        return hub_id if served is None else None

    async def pull(self, name: str) -> AsyncGenerator[Progress, None]:
        hub_id = self._to_be_pulled(name)
        if hub_id is None:
            yield Progress("it is here already")
            return
        async for progress in self._fetched(hub_id, _plain(name)):
            yield progress

    async def _fetched(self, hub_id: HubId, wanted: str) -> AsyncGenerator[Progress, None]:
        """`wanted` is what the caller called it, and goes on calling it."""
        spec = self._spec_of(str(hub_id), str(hub_id))
        async for progress in reported(lambda on_event: prepare_in_child(spec, on_event)):
            yield progress
        async with self._turn:
            source = await self._in_thread(lambda: find_source(spec))
            model_id = source.name
            if self._serving.entry(model_id) is not None:  # another file of that repository
                model_id = f"{source.name}:{hub_id.choice or 'pulled'}"
            if self._served(str(hub_id)) is None and self._serving.entry(model_id) is None:
                aliases = dict.fromkeys((wanted, str(hub_id), hub_id.repo))
                self._serving.add(model_id, spec, tuple(aliases))

    async def create(self, recipe: Recipe) -> AsyncGenerator[Progress, None]:
        self._check_allowed()
        name = new_name(recipe.name)
        base = None
        if not recipe.files:
            base = self._served(_plain(recipe.base))
        if base is None:
            spec = await self._spec_for(name, recipe)
            yield Progress("reading the model's files")
            async for progress in self._prepared(spec, recipe):
                yield progress
        else:
            spec = base.spec
            if recipe.quant is not None:
                raise BadRequest(
                    "A model that is here already is not quantized anew: create it of its "
                    "checkpoint.",
                    param="quantize",
                )
        defaults = _inherited(recipe, base)
        yield Progress("writing the model's description")
        async with self._turn:
            if (older := self._serving.entry(name)) is not None:
                if older is base and recipe.chat_template:
                    base = None
                await self._replace(older, base)
            if recipe.chat_template:
                path = self._created.template_path(name)
                spec = replace(spec, settings=replace(spec.settings, chat_template=str(path)))
            self._remember(name, spec, defaults, recipe.chat_template)
            if base is None or recipe.chat_template:
                self._serving.add(name, spec, (), defaults)
            else:
                self._serving.share(name, base, defaults)

    async def _prepared(self, spec: ModelSpec, recipe: Recipe) -> AsyncGenerator[Progress, None]:
        """Raises `BadRequest` where its files are no model, or not of the quantization that
        is asked for: what was sent is then gone.
        """
        try:
            if not await self._in_thread(lambda: is_prepared(spec)):
                async for progress in reported(lambda on_event: prepare_in_child(spec, on_event)):
                    yield progress
            await self._in_thread(lambda: _check(spec))
        except (BadModelFile, BadRequest) as error:
            if recipe.files:
                others = [entry.spec for entry in self._serving]
                await self._in_thread(lambda: remove_files(spec, others))
            raise BadRequest(error.message, param=error.param or "from") from error

    async def _replace(self, older: Entry, base: Entry | None) -> None:
        """Its files stay: those of what replaces it may be the same."""
        if older is base:
            raise BadRequest(
                f"'{older.model.id}' cannot be made of itself: create it under another name.",
                param="from",
            )
        await self._serving.remove(older)

    async def _spec_for(self, name: str, recipe: Recipe) -> ModelSpec:
        """Raises `BadRequest` and `ModelNotFound`."""
        if recipe.files:
            argument = await self._in_thread(
                lambda: materials_in(self._models_dir, name, recipe.files, self._blobs)
            )
        elif recipe.base:
            argument = _plain(recipe.base)
        else:
            raise BadRequest("Name what it is made of: 'from' or 'files'.", param="from")
        try:
            spec = self._spec_of(name, argument)
            if recipe.quant is not None:
                spec = replace(spec, settings=replace(spec.settings, quant=recipe.quant))
            await self._in_thread(lambda: find_source(spec))
        except BadSettings as error:
            raise ModelNotFound(error.message, param="from") from error
        except ApplianceError as error:
            raise BadRequest(error.message, param="from") from error
        return spec

    def _remember(
        self, name: str, spec: ModelSpec, defaults: ModelDefaults, chat_template: str
    ) -> None:
        created = CreatedModel(
            name=name,
            argument=spec.argument,
            quant=spec.settings.quant,
            defaults=defaults,
            chat_template=spec.settings.chat_template or "",
        )
        self._created.write(created, chat_template)

    async def copy(self, source: ServedModel, name: str) -> None:
        self._check_allowed()
        plain = new_name(name, "destination")
        async with self._turn:
            entry = self._serving.entry(source.id)
            if entry is None:
                raise ModelNotFound(f"model '{source.id}' not found", param="source")
            if self._served(plain) is entry:
                return
            if self._serving.entry(plain) is not None:
                raise BadRequest(f"'{plain}' is taken: delete it first.", param="destination")
            self._remember(plain, entry.spec, entry.model.defaults, "")
            self._serving.share(plain, entry, entry.model.defaults)

    # --- models that go ---------------------------------------------------------------

    async def delete(self, model: ServedModel) -> None:
        self._check_allowed()
        async with self._turn:
            entry = self._serving.entry(model.id)
            if entry is None:
                raise ModelNotFound(f"model '{model.id}' not found", param="model")
            is_last = await self._serving.remove(entry)
            self._facts.pop(model.id, None)
            self._created.forget(model.id)
            if is_last:
                others = [other.spec for other in self._serving]
                await self._in_thread(lambda: remove_files(entry.spec, others))

    # --- files for `create` -----------------------------------------------------------

    async def has_blob(self, digest: str) -> bool:
        return self._blobs.path_of(digest).is_file()

    async def keep_blob(self, digest: str, parts: AsyncIterator[bytes]) -> None:
        self._check_allowed()
        await self._blobs.keep(digest, parts)

    # --- in between -------------------------------------------------------------------

    def _check_allowed(self) -> None:
        if not self._is_allowed:
            raise NotAllowed(
                "The models of this server do not change while it serves. If they shall, serve "
                "with --model-changes on."
            )

    def _served(self, name: str) -> Entry | None:
        for entry in self._serving:
            if name in (entry.model.id, *entry.model.aliases):
                return entry
        return None

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            trim_heap()


def _check(spec: ModelSpec) -> None:
    """Raises `BadModelFile` where none of the files of a model is sound, and `BadRequest`
    where one would have to be quantized anew.
    """
    source, quant = find_source(spec), spec.settings.quant
    headers = prepare_source(source, quant, lambda _event: None).headers
    is_given = source.checkpoint is None and source.hub is None
    if is_given and quant is not None and all(each.quantization != quant for each in headers):
        raise BadRequest(
            f"The model's file is {headers[0].quantization}: only a checkpoint is quantized. Leave "
            "'quantize' out, or send the checkpoint's files.",
            param="quantize",
        )


def _plain(name: str) -> str:
    """As it is called here: with the hub's address and `:latest` taken off."""
    plain = name.strip().removesuffix(_LATEST)
    for prefix in ("https://", "http://"):
        plain = plain.removeprefix(prefix)
    for prefix in ("hf.co/", "huggingface.co/"):
        plain = plain.removeprefix(prefix)
    return plain


def _inherited(recipe: Recipe, base: Entry | None) -> ModelDefaults:
    """What the recipe does not say is the base's."""
    own = recipe.defaults
    if base is None:
        return replace(own, parent=own.parent or recipe.base)
    older = base.model.defaults
    return ModelDefaults(
        parent=base.model.id,
        system=own.system or older.system,
        parameters={**older.parameters, **own.parameters},
        messages=own.messages or older.messages,
    )
