"""Continue, in editors and as `cn` in a terminal: it uses `/v1/chat/completions`.

Knows no other agent.

Source: https://docs.continue.dev/reference
"""

from __future__ import annotations

from typing import Any

from appliance.cli.agents.agent import NO_KEY, Agent, FileChange, Needs, Setup, Target
from appliance.cli.agents.merging import merged_yaml, merged_yaml_list
from appliance.cli.agents.shell import KEY_VARIABLE

_EMPTY = merged_yaml("", {"name": "appliance", "version": "0.0.1", "schema": "v1"})


def _set_up(target: Target) -> Setup:
    key = NO_KEY if target.key_file is None else f"${{{{ secrets.{KEY_VARIABLE} }}}}"
    model: dict[str, Any] = {
        "name": "appliance",
        "provider": "openai",
        "model": target.model,
        "apiBase": target.openai_url,
        "apiKey": key,
        "roles": ["chat", "edit", "apply"],
        "capabilities": [] if target.tool_use == "none" else ["tool_use"],
        "defaultCompletionOptions": {
            "contextLength": target.ctx,
            "maxTokens": target.answer_tokens(),
        },
    }

    def merged(text: str) -> str:
        return merged_yaml_list(text if text.strip() else _EMPTY, "models", model)

    own = target.own_folder / "continue.yaml"
    remark = f"Then write the key into ~/.continue/.env, where editors find it: {KEY_VARIABLE}=KEY"
    return Setup(
        key_variables=() if target.key_file is None else (KEY_VARIABLE,),
        arguments=("--config", str(own)),
        own_files={own: merged("")},
        changes=(
            FileChange(
                path=target.home / ".continue" / "config.yaml", addition=merged(""), merged=merged
            ),
        ),
        once_written="" if target.key_file is None else remark,
    )


CONTINUE = Agent(
    name="continue",
    title="Continue",
    summary="Writes code in VS Code and JetBrains' editors, and in a terminal (cn)",
    needs=Needs(least_ctx=8_192, good_ctx=32_768, tools=False),
    command="cn",
    installing="npm install -g @continuedev/cli, or the extension in your editor",
    set_up=_set_up,
)
