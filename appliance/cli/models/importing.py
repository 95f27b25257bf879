"""`appliance import`: uses what another program has downloaded already.

Knows no format of theirs; what becomes of a model's own settings is the server's rule for
models that are created.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from appliance.api.ollama.changes import CreateRequest
from appliance.api.ollama.options import Options
from appliance.cli.progress_lines import ProgressLines
from appliance.cli.tables.table import table
from appliance.errors import ApplianceError, BadRequest, BadSettings
from appliance.fit.plan.budget import readable
from appliance.gateway.library.facts import ModelDefaults
from appliance.launch.library.recipes import CreatedModel, CreatedModels, new_name
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.imports.found import FoundModel, files_from, inspected
from appliance.store.imports.lm_studio import lm_studio_folder, lm_studio_models
from appliance.store.imports.ollama import ollama_folder, ollama_models
from appliance.store.imports.placing import Placing, place
from appliance.store.models import ModelStore
from appliance.store.split import first_part, model_name

OLLAMA, LM_STUDIO = "ollama", "lmstudio"
_INSIDE = {
    OLLAMA: "that has manifests/ and blobs/",
    LM_STUDIO: "that has PUBLISHER/MODEL/FILE.gguf",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a model, or would."""

    model: FoundModel
    words: str
    serve_as: str = ""  # empty where it is not here

    def as_record(self) -> dict[str, object]:
        return {
            "name": self.model.name,
            "origin": self.model.origin,
            "files": [str(file.path) for file in self.model.files],
            "bytes": self.model.num_bytes,
            "outcome": self.words,
            "serve_as": self.serve_as or None,
            "problem": self.model.problem or None,
            "remarks": self.model.remarks,
        }


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """1 where one of those that were wanted cannot be used.

    Raises `BadSettings` where there is no such model or program.
    """
    found = _found(args.source, args.from_dir)
    if not found and args.from_dir is not None:
        raise BadSettings(
            f"--from-dir {args.from_dir} has nothing of {args.source}. It must be the folder "
            f"{_INSIDE[args.source]}."
        )
    wanted = _wanted(found, args.names, args.source)
    store = ModelStore(settings.models_dir, load_catalog())
    placing = Placing(
        models_dir=settings.models_dir,
        reserved=store.reserved_names,
        copies=args.copy,
        on_event=ProgressLines(sys.stderr),
    )
    outcomes = [
        _foreseen(model, placing) if args.dry_run else _imported(model, placing)
        for model in map(inspected, wanted)
    ]
    if args.json:
        print(json.dumps([outcome.as_record() for outcome in outcomes], indent=2))
    else:
        print(as_text(outcomes))
    return int(any(outcome.model.problem for outcome in outcomes))


def as_text(outcomes: Sequence[Outcome]) -> str:
    """A line for each model; below all of them what is to be said of some."""
    rows = [("", "size", "", "serve it as")]
    rows += [
        (
            outcome.model.name,
            readable(outcome.model.num_bytes) if outcome.model.files else "-",
            outcome.words,
            outcome.serve_as,
        )
        for outcome in outcomes
    ]
    said = [
        f"{outcome.model.name}: {text}"
        for outcome in outcomes
        for text in (outcome.model.problem, *outcome.model.remarks)
        if text
    ]
    return "\n".join([table(rows), *([""] if said else []), *said])


def _found(source: str, from_dir: Path | None) -> list[FoundModel]:
    """Raises `BadSettings`."""
    if from_dir is not None and not from_dir.is_dir():
        raise BadSettings(f"--from-dir {from_dir} is no directory. Check the path.")
    if source == OLLAMA:
        told = os.environ.get("OLLAMA_MODELS", "")
        return list(ollama_models(from_dir or ollama_folder(Path.home(), told)))
    if source == LM_STUDIO:
        return list(lm_studio_models(from_dir or lm_studio_folder(Path.home())))
    path = first_part(Path(source))
    if not path.is_file():
        raise BadSettings(
            f"{source} is neither a GGUF file nor one of {OLLAMA} and {LM_STUDIO}. A checkpoint's "
            "directory needs no import: 'appliance serve DIR' converts it."
        )
    name = model_name(path)
    origin = str(path.resolve().with_name(name))
    return [FoundModel(name=name, origin=origin, files=files_from(path))]


def _wanted(found: Sequence[FoundModel], names: Sequence[str], source: str) -> Sequence[FoundModel]:
    """Those that `names` mean; without any, all. Raises `BadSettings`."""
    for name in names:
        if not any(model.is_called(name) for model in found):
            known = ", ".join(model.name for model in found) or "none"
            raise BadSettings(f"{source} has no model {name!r}. The models there are: {known}.")
    if not found:
        raise BadSettings(f"{source} has no models yet.")
    return [model for model in found if not names or any(model.is_called(name) for name in names)]


def _foreseen(model: FoundModel, placing: Placing) -> Outcome:
    if model.problem:
        return Outcome(model=model, words="would be left out")
    if placing.copies:
        return Outcome(model=model, words="would be copied")
    return Outcome(model=model, words="would be linked, not copied")


def _imported(model: FoundModel, placing: Placing) -> Outcome:
    if model.problem:
        return Outcome(model=model, words="left out")
    try:
        placed = place(model, placing)
        defaults, remarks = _defaults(model)
        name = _serve_as(model, placed.folder, defaults, placing.models_dir)
    except ApplianceError as error:
        return Outcome(model=replace(model, problem=error.message), words="left out")
    told = replace(model, remarks=(*model.remarks, *remarks))
    return Outcome(model=told, words=placed.way.value, serve_as=name)


def _serve_as(model: FoundModel, folder: Path, defaults: ModelDefaults, models_dir: Path) -> str:
    """The model's own name, where it is another one than the folder's or brings settings of
    its own: that is remembered as of a model that was created.
    """
    has_own_name = model.name != folder.name or defaults != ModelDefaults()
    if model.is_one_of_several or not has_own_name:
        return folder.name
    try:
        name = new_name(model.name)
    except BadRequest:  # longer than names may be here, or a word that means something else
        return folder.name
    CreatedModels(models_dir).write(
        CreatedModel(name=name, argument=folder.name, defaults=defaults)
    )
    return name


def _defaults(model: FoundModel) -> tuple[ModelDefaults, list[str]]:
    """As the server would keep them; and what it would not take, in sentences."""
    kept, remarks = {}, []
    for name, value in model.parameters.items():
        try:
            Options.model_validate({name: value})
            kept[name] = value
        except ValidationError:
            remarks.append(f"its parameter {name} is not kept: {value!r} is not taken here.")
    told = {"model": model.name, "system": model.system, "parameters": kept}
    try:
        request = CreateRequest.model_validate({**told, "messages": [*model.messages]})
        return request.to_recipe().defaults, remarks
    except (ValidationError, BadRequest):
        remarks.append("the messages that it begins with are not kept.")
        return CreateRequest.model_validate(told).to_recipe().defaults, remarks
