"""The agents that there are. Knows nothing of them but their names."""

from __future__ import annotations

from appliance.cli.agents.agent import Agent
from appliance.cli.agents.aider import AIDER
from appliance.cli.agents.claude_code import CLAUDE_CODE
from appliance.cli.agents.codex import CODEX
from appliance.cli.agents.continue_dev import CONTINUE
from appliance.cli.agents.home_assistant import HOME_ASSISTANT
from appliance.cli.agents.open_webui import OPEN_WEBUI
from appliance.cli.agents.opencode import OPENCODE
from appliance.errors import BadSettings

AGENTS: tuple[Agent, ...] = (
    CLAUDE_CODE,
    CODEX,
    OPENCODE,
    AIDER,
    CONTINUE,
    OPEN_WEBUI,
    HOME_ASSISTANT,
)


def find_agent(name: str) -> Agent:
    """Raises `BadSettings` naming those there are."""
    found = next((agent for agent in AGENTS if agent.name == name), None)
    if found is None:
        known = ", ".join(agent.name for agent in AGENTS)
        raise BadSettings(f"There is no agent '{name}' here. There are: {known}.")
    return found
