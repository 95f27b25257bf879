"""Claude Code, Anthropic's agent: it uses `/v1/messages`. Knows no other agent.

Source: https://code.claude.com/docs/en/settings and https://code.claude.com/docs/en/env-vars
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.cli.agents.agent import NO_KEY, Agent, FileChange, Needs, Setup, Target
from appliance.cli.agents.merging import json_text, merged_json
from appliance.cli.agents.shell import first_key_command

_OTHER_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


def _set_up(target: Target) -> Setup:
    environment = {
        "ANTHROPIC_BASE_URL": target.url,
        "ANTHROPIC_MODEL": target.model,
        # whichever of its own models it would use for a task
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.model,
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(target.ctx),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(target.answer_tokens()),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # keys for other servers are nothing for this one
        **dict.fromkeys(_OTHER_KEYS, ""),
    }
    helper = f"echo {NO_KEY}" if target.key_file is None else first_key_command(target.key_file)
    settings: dict[str, Any] = {"env": environment, "apiKeyHelper": helper}
    # What stands in the user's settings wins over variables, and these over what stands there.
    own = target.own_folder / "claude.settings.json"
    return Setup(
        arguments=("--settings", str(own)),
        own_files={own: json_text(settings)},
        unset=_OTHER_KEYS,
        changes=(
            FileChange(
                path=_folder(target) / "settings.json",
                addition=json_text(settings),
                merged=lambda text: merged_json(text, settings),
            ),
        ),
    )


def _folder(target: Target) -> Path:
    return Path(target.environ.get("CLAUDE_CONFIG_DIR") or target.home / ".claude")


CLAUDE_CODE = Agent(
    name="claude",
    title="Claude Code",
    summary="Writes and runs code in a terminal",
    needs=Needs(least_ctx=32_768, good_ctx=65_536, tools=True),
    command="claude",
    installing="npm install -g @anthropic-ai/claude-code",
    set_up=_set_up,
)
