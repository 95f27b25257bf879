"""Whether a model suffices for an agent, and what is said where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.cli.agents.aider import AIDER
from appliance.cli.agents.claude_code import CLAUDE_CODE
from appliance.cli.agents.suitability import Judgement, ServedModel, judge
from appliance.store.catalog import ModelForAgents, load_catalog

GULL = ServedModel(id="gull", ctx=65_536, train_ctx=131_072, tool_use="native", is_embedding=False)
KNOWN = (ModelForAgents("org/small", 40_960), ModelForAgents("org/long", 262_144))
MADE_FOR_THIS = (
    "Made for this: org/long, served with --ctx 65536 ('appliance fit NAME --ctx 65536' shows "
    "whether it fits this machine)."
)


def judged(model: ServedModel, *others: ServedModel) -> Judgement:
    return judge(CLAUDE_CODE, model, [model, *others], KNOWN)


def test_enough_is_not_spoken_of() -> None:
    assert judged(GULL) == Judgement()


def test_a_short_context_has_a_longer_one_as_its_way_out() -> None:
    found = judged(replace(GULL, ctx=8192))
    assert found == Judgement(
        problems=(
            "Claude Code needs at least 32768 tokens of context, and gull is served with 8192.",
            "It was trained for 131072: serve it with --ctx 65536 ('appliance fit MODEL --ctx "
            "65536' shows whether that fits this machine).",
        )
    )


def test_a_context_that_could_be_longer_is_a_remark() -> None:
    [remark] = judged(replace(GULL, ctx=40_000, train_ctx=40_960)).remarks
    assert remark == (
        "Claude Code works better with 65536 tokens of context; gull is served with 40000. It was "
        "trained for 40960: serve it with --ctx 40960 ('appliance fit MODEL --ctx 40960' shows "
        "whether that fits this machine)."
    )


def test_a_model_that_cannot_do_it_gives_way_to_another() -> None:
    short = replace(GULL, id="auk", ctx=2048, train_ctx=2048)
    assert judged(short).problems[1:] == (MADE_FOR_THIS,)
    assert judged(short, GULL).problems[1:] == ("On this server, this would do: --model gull.",)
    unloaded = ServedModel(id="x", ctx=None, train_ctx=None, tool_use=None, is_embedding=False)
    assert judged(short, unloaded).problems[1:] == (MADE_FOR_THIS,)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (replace(GULL, tool_use="none"), "Claude Code calls functions, and gull is shown none: "),
        (replace(GULL, is_embedding=True), "gull makes embeddings and writes no text."),
    ],
    ids=["no functions", "embeddings"],
)
def test_no_context_is_enough_for_what_a_model_does_not_do(
    model: ServedModel, problem: str
) -> None:
    first, way_out = judged(model).problems
    assert first.startswith(problem)
    assert way_out == MADE_FOR_THIS


def test_functions_in_words_are_a_remark() -> None:
    [remark] = judged(replace(GULL, tool_use="generic")).remarks
    assert remark.startswith("gull was not trained to call functions: ")


def test_an_agent_that_calls_nothing_asks_for_less() -> None:
    model = replace(GULL, ctx=32_768, tool_use="none")
    assert judge(AIDER, model, [model], KNOWN) == Judgement()


def test_the_catalog_names_models_for_every_agent() -> None:
    assert [model.ctx for model in load_catalog().for_agents] == [262_144, 262_144]
