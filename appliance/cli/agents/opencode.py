"""opencode: it uses `/v1/chat/completions`. Knows no other agent.

Source: https://opencode.ai/docs/providers and https://opencode.ai/docs/config
"""

from __future__ import annotations

import json
from typing import Any

from appliance.cli.agents.agent import NO_KEY, Agent, FileChange, Needs, Setup, Target
from appliance.cli.agents.merging import json_text, merged_json
from appliance.cli.agents.shell import KEY_VARIABLE, key_line

_PROVIDER = "appliance"


def _set_up(target: Target) -> Setup:
    key = NO_KEY if target.key_file is None else f"{{env:{KEY_VARIABLE}}}"
    config: dict[str, Any] = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"{_PROVIDER}/{target.model}",
        "small_model": f"{_PROVIDER}/{target.model}",
        "provider": {
            _PROVIDER: {
                "npm": "@ai-sdk/openai-compatible",
                "name": "appliance",
                "options": {"baseURL": target.openai_url, "apiKey": key},
                "models": {
                    target.model: {
                        "name": target.model,
                        "tool_call": target.tool_use != "none",
                        "limit": {"context": target.ctx, "output": target.answer_tokens()},
                    }
                },
            }
        },
    }
    folder = target.config_home() / "opencode"
    with_comments = folder / "opencode.jsonc"  # which it reads after the other one
    return Setup(
        environment={"OPENCODE_CONFIG_CONTENT": json.dumps(config, ensure_ascii=False)},
        key_variables=() if target.key_file is None else (KEY_VARIABLE,),
        changes=(
            FileChange(
                path=with_comments if with_comments.exists() else folder / "opencode.json",
                addition=json_text(config),
                merged=lambda text: merged_json(text, config),
            ),
        ),
        once_written="" if target.key_file is None else key_line(KEY_VARIABLE, target.key_file),
    )


OPENCODE = Agent(
    name="opencode",
    title="opencode",
    summary="Writes and runs code in a terminal",
    needs=Needs(least_ctx=16_384, good_ctx=65_536, tools=True),
    command="opencode",
    installing="npm install -g opencode-ai",
    set_up=_set_up,
)
