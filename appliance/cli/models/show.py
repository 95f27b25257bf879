"""`appliance show`: what a model's files say of it, and how it would be served here.

Does not load the model, and downloads and converts nothing of it. Knows no rule of the choice.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from appliance.cli.progress_lines import ProgressLines
from appliance.errors import BadSettings, NothingFits
from appliance.fit.plan.budget import readable
from appliance.fit.plan.planner import Plan
from appliance.gateway.library.facts import ModelFacts
from appliance.launch.files import find_source, is_prepared, prepare_model
from appliance.launch.library.reading import facts_of
from appliance.launch.machine import measure_machine
from appliance.launch.names import model_spec
from appliance.launch.planning import launch_of
from appliance.launch.spec import ModelSpec
from appliance.launch.tuning.recall import best_plan
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.event import OnEvent
from appliance.store.model_source import ModelSource
from appliance.store.split import files_of

_NO_PLAN = "It is converted when it is first served; 'appliance fit' does that now."


def run(settings: ServeSettings, *, as_json: bool, only_template: bool) -> int:
    """Raises `BadSettings` where nothing of the model is here, or it has no template that
    was asked for.
    """
    spec = model_spec(settings)
    source = find_source(spec)
    if source.must_be_pulled:
        raise BadSettings(
            f"{spec.argument} has not been downloaded. 'appliance fit {spec.argument}' shows what "
            f"would be served of it, 'appliance pull {spec.argument}' downloads that."
        )
    facts = facts_of(spec)
    if only_template:
        if not facts.chat_template:
            raise BadSettings(f"{source.name} has no chat template.")
        print(facts.chat_template)
        return 0
    shown = Shown(source=source, facts=facts, licence=_licence(source, facts), fit=_fit(spec))
    if as_json:
        print(json.dumps(shown.as_record(), indent=2))
    else:
        print(shown.as_text())
    return 0


@dataclass(frozen=True, kw_only=True)
class Fit:
    plan: Plan | None
    words: str  # where there is a plan, why it is this one; else why there is none


@dataclass(frozen=True, kw_only=True)
class Shown:
    source: ModelSource
    facts: ModelFacts
    licence: str
    fit: Fit

    def as_record(self) -> dict[str, object]:
        """JSON data; sizes in bytes and tokens, null for what is not known."""
        plan, facts = self.fit.plan, self.facts
        chosen = plan and {
            "path": str(plan.model_path),
            "quantization": plan.quantization,
            "ctx": plan.ctx,
            "slots": plan.sizes.slots,
            "need_bytes": plan.need.claimed_bytes,
        }
        return {
            "name": self.source.name,
            "hub": None if self.source.hub is None else str(self.source.hub),
            "architecture": facts.architecture or None,
            "num_params": facts.num_params or None,
            "train_ctx": facts.train_ctx or None,
            "kind": _kind(facts) or None,
            "licence": self.licence or None,
            "has_chat_template": bool(facts.chat_template),
            "files": [{"path": str(path), "bytes": _num_bytes(path)} for path in self.source.files],
            "fit": chosen,
            "fit_reason": self.fit.words,
        }

    def as_text(self) -> str:
        facts = self.facts
        rows = [
            ("Name", self.source.name),
            ("From", str(self.source.hub or self.source.checkpoint or self._folder)),
            ("Kind", _kind(facts)),
            ("Architecture", facts.architecture),
            ("Parameters", f"{facts.num_params:,}" if facts.num_params else ""),
            ("Trained for", f"{facts.train_ctx} tokens" if facts.train_ctx else ""),
            ("Licence", self.licence or "not named"),
            ("Template", "its own (--template prints it)" if facts.chat_template else "none"),
        ]
        lines = [f"{name.ljust(13)} {value}" for name, value in rows if value]
        lines += [
            f"{'File'.ljust(13)} {path}, {readable(_num_bytes(path))}" for path in self.source.files
        ]
        return "\n".join([*lines, "", *self._fit_lines()])

    @property
    def _folder(self) -> Path:
        """Of its files: a package's are not in the models directory."""
        files = self.source.files
        return files[0].parent if files else self.source.directory

    def _fit_lines(self) -> list[str]:
        plan = self.fit.plan
        if plan is None:
            return [f"Here: {self.fit.words}"]
        return [
            f"Here: {plan.quantization}, context {plan.ctx}, {plan.sizes.slots} slots, "
            f"{readable(plan.need.claimed_bytes)} of memory.",
            f"{self.fit.words} ('appliance fit' shows the other choices.)",
        ]


def _fit(spec: ModelSpec) -> Fit:
    on_event: OnEvent = ProgressLines(sys.stderr)
    if not is_prepared(spec):
        return Fit(plan=None, words=_NO_PLAN)
    model = prepare_model(spec, on_event)
    try:
        plan = best_plan(launch_of(spec, model, measure_machine(spec, on_event)))
    except NothingFits as error:
        return Fit(plan=None, words=error.message)
    return Fit(plan=plan, words=plan.reason)


def _licence(source: ModelSource, facts: ModelFacts) -> str:
    """Of the file, else of the catalog."""
    entry = next((each for each in load_catalog().entries if each.name == source.name), None)
    return facts.licence or ("" if entry is None else entry.licence)


def _kind(facts: ModelFacts) -> str:
    if not facts.architecture:
        return ""
    if facts.embeds:
        return "embeddings"
    return "chat" if facts.chat_template else "continues text"


def _num_bytes(path: Path) -> int:
    return sum(part.stat().st_size for part in files_of(path))
