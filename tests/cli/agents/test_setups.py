"""What each agent is told, as its own documentation asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.cli.agents.agent import Agent, FileChange
from appliance.cli.agents.aider import AIDER
from appliance.cli.agents.claude_code import CLAUDE_CODE
from appliance.cli.agents.codex import CODEX
from appliance.cli.agents.continue_dev import CONTINUE
from appliance.cli.agents.home_assistant import HOME_ASSISTANT
from appliance.cli.agents.open_webui import OPEN_WEBUI
from appliance.cli.agents.opencode import OPENCODE
from appliance.cli.agents.shell import environment_of, shell_lines
from appliance.cli.agents.showing import as_text
from appliance.cli.agents.table import AGENTS
from tests.cli.agents.targets import target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECRET = "sk-secret"


def only_change(agent: Agent, home: Path, **more: str) -> FileChange:
    [change] = agent.set_up(target(home, **more)).changes
    return change


def test_claude_code_has_settings_that_win_over_its_users(tmp_path: Path) -> None:
    around = {"ANTHROPIC_API_KEY": "sk-ant", "HOME": "/h"}
    here = target(tmp_path, **around)
    setup = CLAUDE_CODE.set_up(here)
    expected = {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080",
        "ANTHROPIC_MODEL": "org/gull",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "org/gull",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "org/gull",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "org/gull",
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "40000",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "8192",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_AUTH_TOKEN": "",
    }
    assert environment_of(setup, here) == {"HOME": "/h"}
    own = tmp_path / "state" / "agents" / "claude.settings.json"
    assert setup.arguments == ("--settings", str(own))
    assert json.loads(setup.own_files[own]) == {"env": expected, "apiKeyHelper": "echo none"}
    change = only_change(CLAUDE_CODE, tmp_path)
    assert change.path == tmp_path / ".claude" / "settings.json"
    merged = json.loads(change.merged('{"env": {"A": "1"}, "theme": "dark"}'))
    assert merged == {
        "env": {"A": "1", **expected},
        "theme": "dark",
        "apiKeyHelper": "echo none",
    }
    moved = only_change(CLAUDE_CODE, tmp_path, CLAUDE_CONFIG_DIR="/c")
    assert moved.path == Path("/c/settings.json")


def test_claude_code_reads_its_key_from_the_file_of_keys(tmp_path: Path) -> None:
    settings = json.loads(only_change(CLAUDE_CODE, tmp_path, key=SECRET).addition)
    (tmp_path / "my keys").write_text("# mine\n\nsk-secret\nsk-other\n")
    printed = subprocess.run(
        settings["apiKeyHelper"], shell=True, check=True, capture_output=True, text=True
    )
    assert printed.stdout == "sk-secret\n"


@pytest.mark.parametrize("key", [None, SECRET])
def test_codex_has_a_profile_of_its_own(tmp_path: Path, key: str | None) -> None:
    here = target(tmp_path, key=key)
    setup = CODEX.set_up(here)
    provider = {
        "name": "appliance",
        "base_url": "http://127.0.0.1:8080/v1",
        "wire_api": "responses",
        **({} if key is None else {"env_key": "LOCAL_LLM_KEY"}),
    }
    expected = {
        "model": "org/gull",
        "model_provider": "appliance",
        "model_context_window": 40_000,
        "web_search": "disabled",
        "model_providers": {"appliance": provider},
    }
    [change] = setup.changes
    assert change.path == tmp_path / ".codex" / "appliance.config.toml"
    assert tomllib.loads(change.merged("model = 'old'")) == expected
    assert setup.arguments[::2] == ("-c",) * 5
    assert tomllib.loads("\n".join(setup.arguments[1::2])) == expected
    assert environment_of(setup, here) == ({} if key is None else {"LOCAL_LLM_KEY": SECRET})


def test_opencode_has_its_configuration_in_a_variable_or_a_file(tmp_path: Path) -> None:
    def provider(key: str) -> dict[str, Any]:
        limit = {"context": 40_000, "output": 8192}
        return {
            "appliance": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "appliance",
                "options": {"baseURL": "http://127.0.0.1:8080/v1", "apiKey": key},
                "models": {"org/gull": {"name": "org/gull", "tool_call": True, "limit": limit}},
            }
        }

    setup = OPENCODE.set_up(target(tmp_path))
    expected = {
        "$schema": "https://opencode.ai/config.json",
        "model": "appliance/org/gull",
        "small_model": "appliance/org/gull",
        "provider": provider("none"),
    }
    assert json.loads(setup.environment["OPENCODE_CONFIG_CONTENT"]) == expected
    change = only_change(OPENCODE, tmp_path, key=SECRET, XDG_CONFIG_HOME=str(tmp_path))
    assert change.path == tmp_path / "opencode" / "opencode.json"
    assert json.loads(change.merged('{"provider": {"a": {}}}'))["provider"] == {
        "a": {},
        **provider("{env:LOCAL_LLM_KEY}"),
    }
    (tmp_path / "opencode").mkdir()
    (tmp_path / "opencode" / "opencode.jsonc").touch()
    change = only_change(OPENCODE, tmp_path, XDG_CONFIG_HOME=str(tmp_path))
    assert change.path.name == "opencode.jsonc"


def test_aider_is_told_the_context(tmp_path: Path) -> None:
    here = target(tmp_path)
    setup = AIDER.set_up(here)
    own = tmp_path / "state" / "agents" / "aider.model.metadata.json"
    assert setup.arguments == ("--model", "openai/org/gull", "--model-metadata-file", str(own))
    assert environment_of(setup, here) == {
        "AIDER_OPENAI_API_BASE": "http://127.0.0.1:8080/v1",
        "AIDER_OPENAI_API_KEY": "none",
    }
    config, metadata = setup.changes
    assert (config.path, metadata.path) == (
        tmp_path / ".aider.conf.yml",
        tmp_path / ".aider.model.metadata.json",
    )
    assert yaml.safe_load(config.merged("dark-mode: true\n")) == {
        "dark-mode": True,
        "model": "openai/org/gull",
        "openai-api-base": "http://127.0.0.1:8080/v1",
        "openai-api-key": "none",
    }
    [facts] = json.loads(setup.own_files[own]).values()
    assert (facts["max_input_tokens"], facts["litellm_provider"]) == (40_000, "openai")
    assert json.loads(metadata.merged('{"a/b": {}}')).keys() == {"a/b", "openai/org/gull"}
    with_key = AIDER.set_up(target(tmp_path, key=SECRET)).changes[0]
    assert "openai-api-key" not in yaml.safe_load(with_key.addition)


def test_continue_has_one_model_more(tmp_path: Path) -> None:
    setup = CONTINUE.set_up(target(tmp_path))
    own = tmp_path / "state" / "agents" / "continue.yaml"
    assert setup.arguments == ("--config", str(own))
    config = yaml.safe_load(setup.own_files[own])
    assert {key: config[key] for key in ("name", "version", "schema")} == {
        "name": "appliance",
        "version": "0.0.1",
        "schema": "v1",
    }
    assert config["models"] == [
        {
            "name": "appliance",
            "provider": "openai",
            "model": "org/gull",
            "apiBase": "http://127.0.0.1:8080/v1",
            "apiKey": "none",
            "roles": ["chat", "edit", "apply"],
            "capabilities": ["tool_use"],
            "defaultCompletionOptions": {"contextLength": 40_000, "maxTokens": 8192},
        }
    ]
    change = only_change(CONTINUE, tmp_path, key=SECRET)
    merged = yaml.safe_load(change.merged("name: mine\nmodels:\n  - name: a\n"))
    assert [each["name"] for each in merged["models"]] == ["appliance", "a"]
    assert merged["models"][0]["apiKey"] == "${{ secrets.LOCAL_LLM_KEY }}"


def test_open_webui_leaves_our_port_alone(tmp_path: Path) -> None:
    here = target(tmp_path)
    setup = OPEN_WEBUI.set_up(here)
    assert setup.arguments == ("serve", "--port", "3000")
    assert environment_of(setup, here) == {
        "OPENAI_API_BASE_URL": "http://127.0.0.1:8080/v1",
        "OPENAI_API_KEY": "none",
    }
    assert "OPENAI_API_BASE_URL=http://host.docker.internal:8080/v1" in setup.by_hand


def test_home_assistant_is_told_where_to_type_what(tmp_path: Path) -> None:
    text = HOME_ASSISTANT.set_up(target(tmp_path)).by_hand
    lines = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)
    assert {name: value.strip() for name, value in lines.items()} == {
        "URL": "http://127.0.0.1:8080",
        "Model": "org/gull",
        "Context window size": "8192",
        "Control Home Assistant": "Assist, if the model calls functions well",
    }


def test_home_assistant_is_told_where_its_key_is(tmp_path: Path) -> None:
    text = HOME_ASSISTANT.set_up(target(tmp_path, key=SECRET)).by_hand
    [line] = [line for line in text.splitlines() if line.startswith("API key ")]
    assert line.endswith(f"what this prints: grep -m1 '^[^#]' '{tmp_path}/my keys'")


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_the_key_stands_in_no_text(tmp_path: Path, agent: Agent) -> None:
    here = target(tmp_path, key=SECRET)
    setup = agent.set_up(here)
    texts = [as_text(agent, setup, here, ()), repr(here), *setup.own_files.values()]
    texts += [change.merged("") for change in setup.changes]
    assert [text for text in texts if SECRET in text] == []


def test_what_is_printed_does_the_same_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "my keys").write_text(f"# mine\n{SECRET}\n")
    here = target(tmp_path, key=SECRET, PATH=os.environ["PATH"], LEFT="1")
    setup = replace(AIDER.set_up(here), unset=("LEFT",))
    lines = shell_lines(
        setup, here, [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    )
    shown = subprocess.run(
        ["/bin/sh", "-c", "\n".join(lines)],
        env=dict(here.environ),
        check=True,
        capture_output=True,
        text=True,
    )
    expected, found = environment_of(setup, here), json.loads(shown.stdout)
    assert {name: found.get(name) for name in expected} == expected
    assert expected["AIDER_OPENAI_API_KEY"] == SECRET
    assert "LEFT" not in found
