"""Agents and their setups as text. Knows no agent by name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from appliance.cli.agents.agent import Agent, Setup, Target
from appliance.cli.agents.shell import shell_lines
from appliance.cli.tables.table import table


def listing(agents: Sequence[Agent]) -> str:
    """A line for each agent."""
    head = ("AGENT", "", "installed", "least context", "better", "")
    return table([head, *(_row(agent) for agent in agents)])


def as_text(agent: Agent, setup: Setup, target: Target, passed_on: Sequence[str]) -> str:
    """All of a setup, to be copied from."""
    parts = [f"# {agent.title} with {target.model} at {target.url}"]
    if agent.command is not None:
        command = [agent.command, *setup.arguments, *passed_on]
        parts.append("\n".join(shell_lines(setup, target, command)))
    parts += [f"# {path}:\n{text.rstrip()}" for path, text in setup.own_files.items()]
    parts += [
        f"# For good, in {change.path} (appliance launch {agent.name} --write):\n"
        f"{change.addition.rstrip()}"
        for change in setup.changes
    ]
    others = (setup.once_written, setup.by_hand, *setup.remarks)
    return "\n\n".join([*parts, *(text for text in others if text)])


def _row(agent: Agent) -> tuple[str, ...]:
    is_there = agent.command is not None and shutil.which(agent.command) is not None
    return (
        agent.name,
        f"{agent.title}: {agent.summary}",
        "" if agent.command is None else ("yes" if is_there else "no"),
        str(agent.needs.least_ctx),
        str(agent.needs.good_ctx),
        "calls functions" if agent.needs.tools else "",
    )
