"""Aider: it uses `/v1/chat/completions`, without functions. Knows no other agent.

Source: https://aider.chat/docs/llms/openai-compat.html and
https://aider.chat/docs/config/adv-model-settings.html
"""

from __future__ import annotations

from typing import Any

from appliance.cli.agents.agent import NO_KEY, Agent, FileChange, Needs, Setup, Target
from appliance.cli.agents.merging import json_text, merged_json, merged_yaml
from appliance.cli.agents.shell import key_line

# its own variables: OPENAI_API_KEY and OPENAI_API_BASE give way to its files
_KEY = "AIDER_OPENAI_API_KEY"
_BASE = "AIDER_OPENAI_API_BASE"


def _set_up(target: Target) -> Setup:
    model = f"openai/{target.model}"
    metadata: dict[str, Any] = {
        model: {
            "max_input_tokens": target.ctx,
            "max_tokens": target.answer_tokens(),
            "max_output_tokens": target.answer_tokens(),
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "litellm_provider": "openai",
            "mode": "chat",
        }
    }
    config: dict[str, str | int] = {"model": model, "openai-api-base": target.openai_url}
    if target.key_file is None:
        config["openai-api-key"] = NO_KEY
    own = target.own_folder / "aider.model.metadata.json"
    return Setup(
        environment={_BASE: target.openai_url},
        key_variables=(_KEY,),
        arguments=("--model", model, "--model-metadata-file", str(own)),
        own_files={own: json_text(metadata)},
        changes=(
            FileChange(
                path=target.home / ".aider.conf.yml",
                addition=merged_yaml("", config),
                merged=lambda text: merged_yaml(text, config),
            ),
            FileChange(
                path=target.home / ".aider.model.metadata.json",
                addition=json_text(metadata),
                merged=lambda text: merged_json(text, metadata),
            ),
        ),
        once_written="" if target.key_file is None else key_line(_KEY, target.key_file),
    )


AIDER = Agent(
    name="aider",
    title="Aider",
    summary="Edits the files of a git repository in a terminal",
    needs=Needs(least_ctx=8_192, good_ctx=32_768, tools=False),
    command="aider",
    installing="pip install aider-chat",
    set_up=_set_up,
)
