"""`appliance fit`: shows what would be served on this machine, and why.

Knows no formula and no rule of the choice.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from appliance.cli.catalog.auto import with_auto
from appliance.cli.device import device_record
from appliance.cli.progress_lines import ProgressLines
from appliance.cli.tables.placement import as_text as placement_text
from appliance.cli.tables.table import table
from appliance.errors import NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import Budget, readable
from appliance.fit.plan.footprint import Footprint
from appliance.fit.plan.planner import Candidate, Plan
from appliance.launch.drafts import in_words
from appliance.launch.files import PreparedModel, find_source, prepare_model
from appliance.launch.machine import Machine, measure_machine
from appliance.launch.names import model_spec
from appliance.launch.planning import Launch, launch_of, weigh_candidates
from appliance.launch.spec import ModelSpec
from appliance.launch.tuning.recall import best_plan, how_computed
from appliance.settings import ServeSettings
from appliance.store.event import OnEvent, StoreEvent

_IN_HEADROOM = "the headroom covers rarely used code and a request body"


def run(settings: ServeSettings, *, as_json: bool) -> int:
    on_event = ProgressLines(sys.stderr)
    settings = with_auto(settings, lambda text: on_event(StoreEvent(text)))
    spec = model_spec(settings)
    # before the machine is looked at: a wrong name is reported at once, not after
    # probing
    model = _model(spec, on_event)
    launch = launch_of(spec, model, measure_machine(spec, on_event))
    plan = plan_or_explain(launch, as_json=as_json)
    if as_json:
        print(json.dumps(as_record(model.name, plan, launch.machine.device), indent=2))
    else:
        print(as_text(model.name, plan, launch.machine))
    return 0


def _model(spec: ModelSpec, on_event: OnEvent) -> PreparedModel:
    """Of a repository that has not been downloaded, only the headers are fetched."""
    if not find_source(spec).must_be_pulled:
        return prepare_model(spec, on_event)
    # here: a hub's client takes a third of a second to import
    from appliance.launch import hub_choice

    return hub_choice.look(spec, on_event).model


def plan_or_explain(launch: Launch, *, as_json: bool = False) -> Plan:
    """The plan on the best CPU path.

    Raises `NothingFits`, having printed what everything would take.
    """
    try:
        return best_plan(launch)
    except NothingFits:
        device = launch.machine.device
        refusal = Refusal(launch.model.name, weigh_candidates(launch), launch.budget)
        print(
            json.dumps(refusal.as_record(device), indent=2) if as_json else refusal.as_text(device)
        )
        raise  # the last line names the smallest need and what there is


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What there is to show where nothing fits:
    every candidate with what it would take.
    """

    model: str
    candidates: tuple[Candidate, ...]
    budget: Budget

    def as_record(self, device: Device) -> dict[str, object]:
        """JSON data with the plan's names where they mean the same;
        `smallest_need_bytes` is of what can be served.
        """
        needs = [
            candidate.need.claimed_bytes
            for candidate in self.candidates
            if candidate.need is not None
        ]
        return {
            "fits": False,
            "model": self.model,
            "smallest_need_bytes": min(needs),
            "budget": dataclasses.asdict(self.budget),
            "candidates": _candidate_records(self.candidates),
            "device": device_record(device),
        }

    def as_text(self, device: Device) -> str:
        return f"{_machine(device, self.budget)}\n\n{_candidates(self.model, self.candidates)}"


def as_record(name: str, plan: Plan, device: Device) -> dict[str, object]:
    """The plan and how it came about as JSON data; sizes in bytes and tokens."""
    record = dataclasses.asdict(plan)
    del record["tables"]  # where they are in the file
    sizes = record.pop("sizes")  # they stand beside the rest, as they always did
    record |= {"max_batch_rows": sizes.pop("max_rows"), **sizes}
    record["fits"] = True
    record["model"] = name
    record["model_path"] = str(plan.model_path)
    if plan.draft is not None:
        record["draft"]["path"] = str(plan.draft.path)
    record["need"] |= _sums(plan.need)
    record["candidates"] = _candidate_records(plan.candidates)
    record["device"] = device_record(device)
    return record


def _sums(need: Footprint) -> dict[str, int]:
    return {"claimed_bytes": need.claimed_bytes, "total_bytes": need.total_bytes}


def _candidate_records(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    records = []
    for candidate in candidates:
        record = {**dataclasses.asdict(candidate), "model_path": str(candidate.model_path)}
        if candidate.need is not None:
            record["need"] |= _sums(candidate.need)
        records.append(record)
    return records


def as_text(name: str, plan: Plan, machine: Machine) -> str:
    """The same for people; plain ASCII lines, the same on a terminal and in a pipe."""
    head = _machine(machine.device, plan.budget, f", {plan.sizes.threads} threads")
    if machine.gpu_finding is not None:
        head = f"{head}\nGPUs:    none used: {machine.gpu_finding}"
    draft = [in_words(plan.draft)] if plan.draft is not None else []
    choice = "\n".join(
        (f"Choice: {plan.reason}", f"Computed {how_computed(plan)}.", *draft, *_other_budgets(plan))
    )
    candidates = _candidates(
        name, plan.candidates, " (what of it stays in RAM)" if plan.placement.shares else ""
    )
    parts = (head, candidates, _breakdown(plan), placement_text(plan.placement), choice)
    return "\n\n".join(part for part in parts if part)


def _other_budgets(plan: Plan) -> list[str]:
    if any(share.gpu.link is not None for share in plan.placement.shares):
        return []  # what helpers take over was planned for this budget alone
    if not plan.other_budgets:
        return ["1 GiB more or less of memory would change nothing."]
    words = {True: "With 1 GiB more", False: "With 1 GiB less"}
    return [f"{words[other.more_bytes > 0]}: {other.choice}." for other in plan.other_budgets]


def _machine(device: Device, budget: Budget, threads: str = "") -> str:
    quota = f", CPU quota {device.cpu_quota:g}" if device.cpu_quota is not None else ""
    return (
        f"Machine: {device.usable_cores} usable cores ({device.usable_cpus} CPUs{quota}){threads}\n"
        f"Budget:  {readable(budget.usable_bytes)} = {budget.explanation}"
    )


def _candidates(name: str, candidates: Sequence[Candidate], remark: str = "") -> str:
    rows: list[tuple[str, ...]] = [
        (
            "",
            "type",
            "quality",
            "KV",
            "context",
            "cells",
            "slots",
            "weights",
            "KV cache",
            "other",
            "total",
            "",
        )
    ]
    rows += [_candidate_row(candidate) for candidate in candidates]
    title = f"Model: {name}, each choice at the smallest size that is worth serving{remark}"
    return f"{title}\n{table(rows)}"


def _candidate_row(candidate: Candidate) -> tuple[str, ...]:
    mark = "*" if candidate.chosen else ""
    sizes = ("-", "-", "-", "-")
    need = candidate.need
    if need is not None:
        other_bytes = need.claimed_bytes - need.weights_bytes - need.table_bytes - need.kv_bytes
        sizes = (
            readable(need.weights_bytes + need.table_bytes),
            readable(need.kv_bytes),
            readable(other_bytes),
            readable(need.claimed_bytes),
        )
    lengths = (str(candidate.ctx), str(candidate.kv_cells), str(candidate.slots))
    names = (candidate.quantization, candidate.quality, candidate.kv_type)
    return (mark, *names, *lengths, *sizes, candidate.reason)


def _of_tables(need: Footprint) -> list[tuple[str, str, str]]:
    remark = "rows that are used of per-layer embeddings, which stay in the file"
    return [("tables", readable(need.table_bytes), remark)] if need.table_bytes else []


def _of_output(plan: Plan) -> str:
    if plan.embeds:
        return "logits and embeddings of every token, as llama.cpp reserves them"
    return f"{plan.sizes.slots} slots, {plan.sizes.max_draft_rows} drafted tokens"


def _breakdown(plan: Plan) -> str:
    need = plan.need
    source = ", as reported by llama.cpp" if need.is_llama_cpps else ""
    rows = [
        ("weights", readable(need.weights_bytes), f"mapped from {plan.model_path}"),
        *_of_tables(need),
        ("repacked weights", readable(need.repacked_bytes), ""),
        (
            "KV cache",
            readable(need.kv_bytes),
            f"{plan.sizes.kv_cells} cells of {plan.sizes.kv_type}{source}",
        ),
        (
            "compute",
            readable(need.compute_bytes),
            f"{plan.sizes.ubatch_rows} tokens at once{source}",
        ),
        ("scratch", readable(need.scratch_bytes), "of the CPU's largest operation"),
        ("output", readable(need.output_bytes), _of_output(plan)),
        ("vocabulary", readable(need.vocabulary_bytes), ""),
        (
            "grammars",
            readable(need.grammar_bytes),
            "from the first request for structured output onwards",
        ),
        (
            "templates",
            readable(need.template_bytes),
            "processes that render chat templates, on demand",
        ),
        ("worker", readable(need.worker_bytes), "its process, without model and buffers"),
        ("server", readable(need.parent_bytes), "its process, shared by all models"),
        ("code", readable(need.code_bytes), "mapped from files: Python, llama.cpp"),
        ("draft", readable(need.draft_bytes), "a smaller model that drafts"),
        (
            "parsing",
            readable(need.parsing_bytes),
            f"one request body of up to {readable(plan.max_body_bytes)}",
        ),
        ("total", readable(need.total_bytes), "at the peak"),
        (
            "to fit",
            readable(need.claimed_bytes),
            f"into {readable(plan.budget.usable_bytes)}; {_IN_HEADROOM}",
        ),
    ]
    shown = [row for row in rows if row[1] != readable(0)]
    text = f"{plan.quantization}, enlarged to what fits:\n{table(shown)}"
    if plan.embeds:
        return text
    spare = readable(plan.spare_bytes_for_prefixes)
    return f"{text}\nPrefixes kept for reuse may take up to {spare} in addition."
