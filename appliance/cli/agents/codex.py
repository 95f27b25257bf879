"""Codex, OpenAI's agent: it uses `/v1/responses`. Knows no other agent.

Source: https://developers.openai.com/codex/config-reference
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from appliance.cli.agents.agent import Agent, FileChange, Needs, Setup, Target
from appliance.cli.agents.shell import KEY_VARIABLE, key_line

_PROFILE = "appliance"  # also the provider's name


def _set_up(target: Target) -> Setup:
    settings: dict[str, str | int] = {
        "model": target.model,
        "model_provider": _PROFILE,
        "model_context_window": target.ctx,
        "web_search": "disabled",  # OpenAI's own, which no other server has
    }
    provider = {"name": "appliance", "base_url": target.openai_url, "wire_api": "responses"}
    if target.key_file is not None:
        provider["env_key"] = KEY_VARIABLE
    table = f"model_providers.{_PROFILE}"
    at_top, below = _toml(settings), _toml(provider)
    text = "\n".join([*at_top, "", f"[{table}]", *below, ""])
    given = [*at_top, f"{table} = {{{', '.join(below)}}}"]
    return Setup(
        key_variables=() if target.key_file is None else (KEY_VARIABLE,),
        arguments=tuple(word for each in given for word in ("-c", each)),
        changes=(
            # a profile of its own: nothing of the user's own file is touched
            FileChange(
                path=_folder(target) / f"{_PROFILE}.config.toml",
                addition=text,
                merged=lambda _: text,
            ),
        ),
        once_written="\n".join([*_key_lines(target), f"codex --profile {_PROFILE}"]),
    )


def _toml(values: Mapping[str, str | int]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]


def _key_lines(target: Target) -> list[str]:
    return [] if target.key_file is None else [key_line(KEY_VARIABLE, target.key_file)]


def _folder(target: Target) -> Path:
    return Path(target.environ.get("CODEX_HOME") or target.home / ".codex")


CODEX = Agent(
    name="codex",
    title="Codex",
    summary="Writes and runs code in a terminal",
    needs=Needs(least_ctx=16_384, good_ctx=65_536, tools=True),
    command="codex",
    installing="npm install -g @openai/codex",
    set_up=_set_up,
)
