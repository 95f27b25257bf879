"""Whether a served model suffices for an agent, and what would.

Knows no agent by name and asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.cli.agents.agent import Agent, Needs
from appliance.store.catalog import ModelForAgents


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What the server says of a model. What is None is only known once it is loaded."""

    id: str
    ctx: int | None  # tokens; the longest request
    train_ctx: int | None  # tokens; what it was trained for
    tool_use: str | None  # native, generic or none
    is_embedding: bool

    @classmethod
    def of(cls, record: dict[str, Any]) -> ServedModel:
        """From a model's record in the answer of `/ps`."""
        return cls(
            id=record["id"],
            ctx=record.get("ctx"),
            train_ctx=record.get("train_ctx"),
            tool_use=record.get("tool_use"),
            is_embedding=record.get("pooling") is not None,
        )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """In sentences. With a problem the agent does not work; with a remark, less well."""

    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def judge(
    agent: Agent,
    model: ServedModel,
    others: Sequence[ServedModel],
    known: Sequence[ModelForAgents],
) -> Judgement:
    """Of a model that is loaded. `others` are those of the same server, `known` those of
    the catalog.
    """
    needs, problems, remarks = agent.needs, [], []
    ctx = model.ctx or 0
    if model.is_embedding:
        problems.append(f"{model.id} makes embeddings and writes no text.")
    elif needs.tools and model.tool_use == "none":
        problems.append(
            f"{agent.title} calls functions, and {model.id} is shown none: it has no chat template "
            "that could, or is served with --tools native."
        )
    elif ctx < needs.least_ctx:
        problems.append(
            f"{agent.title} needs at least {needs.least_ctx} tokens of context, and {model.id} "
            f"is served with {ctx}."
        )
    if problems:
        return Judgement(problems=(*problems, _way_out(needs, model, others, known)))
    if ctx < needs.good_ctx:
        remarks.append(
            f"{agent.title} works better with {needs.good_ctx} tokens of context; {model.id} is "
            f"served with {ctx}. {_way_out(needs, model, others, known)}"
        )
    if needs.tools and model.tool_use == "generic":
        remarks.append(
            f"{model.id} was not trained to call functions: it is told in words how to, and small "
            "models often get it wrong."
        )
    return Judgement(remarks=tuple(remarks))


def _way_out(
    needs: Needs,
    model: ServedModel,
    others: Sequence[ServedModel],
    known: Sequence[ModelForAgents],
) -> str:
    can_call = not needs.tools or model.tool_use != "none"
    trained = model.train_ctx or 0
    if can_call and not model.is_embedding and trained >= needs.least_ctx:
        wanted = min(trained, needs.good_ctx)
        if wanted > (model.ctx or 0):
            return (
                f"It was trained for {trained}: serve it with --ctx {wanted} ('appliance fit MODEL "
                f"--ctx {wanted}' shows whether that fits this machine)."
            )
    better = [each.id for each in others if each.id != model.id and _suffices(each, needs)]
    if better:
        return f"On this server, this would do: --model {better[0]}."
    made_for = [each for each in known if each.ctx >= needs.good_ctx]
    if not made_for:
        return "Serve a model that was trained for more."
    names = " or ".join(each.name for each in made_for)
    return (
        f"Made for this: {names}, served with --ctx {needs.good_ctx} ('appliance fit NAME --ctx "
        f"{needs.good_ctx}' shows whether it fits this machine)."
    )


def _suffices(model: ServedModel, needs: Needs) -> bool:
    return (
        not model.is_embedding
        and (model.ctx or 0) >= needs.least_ctx
        and (not needs.tools or model.tool_use == "native")
    )
