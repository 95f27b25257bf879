"""A setup in the words of a shell. Knows no agent."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from appliance.cli.agents.agent import NO_KEY, Setup, Target

# Holds the key for agents that have no variable of their own for it. Not APPLIANCE_...:
# those are our settings, and unknown ones are refused.
KEY_VARIABLE = "LOCAL_LLM_KEY"


def first_key_command(key_file: Path) -> str:
    """Prints the first key of a file: its first line that is neither empty nor a comment."""
    return f"grep -m1 '^[^#]' {shlex.quote(str(key_file))}"


def key_line(variable: str, key_file: Path | None) -> str:
    """Puts the key into the environment; the line itself does not hold it."""
    key = NO_KEY if key_file is None else f'"$({first_key_command(key_file)})"'
    return f"export {variable}={key}"


def environment_of(setup: Setup, target: Target) -> dict[str, str]:
    """In which the agent is started, with the key in it."""
    kept = {name: value for name, value in target.environ.items() if name not in setup.unset}
    keys = dict.fromkeys(setup.key_variables, target.key or NO_KEY)
    return {**kept, **setup.environment, **keys}


def shell_lines(setup: Setup, target: Target, command: Sequence[str]) -> list[str]:
    """Has the same effect where it is typed."""
    lines = [f"unset {name}" for name in setup.unset]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in setup.environment.items()]
    lines += [key_line(name, target.key_file) for name in setup.key_variables]
    return [*lines, shlex.join(command)]
