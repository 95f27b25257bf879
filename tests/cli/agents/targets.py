"""Servers as agents are told of them. Knows no agent."""

from __future__ import annotations

from pathlib import Path

from appliance.cli.agents.agent import Target


def target(home: Path, *, key: str | None = None, **environ: str) -> Target:
    """A server on this machine; the key, if any, stands in a file below `home`."""
    return Target(
        url="http://127.0.0.1:8080",
        is_local=True,
        model="org/gull",
        ctx=40_000,
        tool_use="native",
        key=key,
        key_file=None if key is None else home / "my keys",
        home=home,
        environ=environ,
        own_folder=home / "state" / "agents",
    )
