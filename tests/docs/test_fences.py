"""Every piece of code on the pages is marked, or can be checked without running it: each
command has the flags it is given, each request is one that the server takes, each file
of settings can be read.

Knows no page.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from appliance.api.app import create_app
from appliance.cli.command import RawCommand
from appliance.cli.commands import COMMANDS
from appliance.cli.dispatch import build_parser
from appliance.errors import ApplianceError
from appliance.fleet.serving.settings import read_fleet_file
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.events import AskResult, EmbedResult
from appliance.settings import ServeSettings, load
from appliance.settings.sources import CONFIG_VARIABLE, load_table
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, http_to
from tests.docs.curl import asked
from tests.docs.fences import REPOSITORY, Fence, fences, spans
from tests.docs.shell import commands, typed

# Why a piece of code is not run.
NEEDS = {
    "agent",  # a program that somebody else made
    "container",  # a program that builds or runs them
    "gpu",
    "hub",  # a model of a hub
    "keys",
    "machines",  # more than one
    "minutes",  # takes longer than a test may
    "model",  # a model of the reader's own
    "network",
    "package",  # a library that is none of ours
    "root",
    "systemd",
    "terminal",
}
LANGUAGES = {
    "", "console", "html", "ini", "java", "js", "json", "mermaid", "python", "sh", "toml", "vim",
    "yaml",
}  # fmt: skip
# Found in any Unix; whatever else a page uses is ours or is marked with what it needs.
OF_THE_SHELL = {
    "cat", "cd", "done", "echo", "export", "for", "git", "mkdir", "systemctl", "tar", "test",
}  # fmt: skip
HOME = {"HOME": "/home/ada"}
FLAGS_OF_OTHERS = {"--settings"}  # Claude Code's
# Where a flag that stands alone is one of ours, and where it is not.
FOR_USERS = ("README", "SECURITY", "docs/cookbook", "docs/faq", "docs/guide", "docs/quick-start")
WITH_OTHERS = ("docs/guide/container", "docs/guide/release")


def in_language(*languages: str) -> list[Fence]:
    return [fence for fence in fences() if fence.language in languages]


def commands_of(fence: Fence) -> list[list[str]]:
    return commands(typed(fence.text) if fence.language == "console" else fence.text)


def all_commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Those of a program on all pages: where they stand, and their words."""
    for fence in in_language("sh", "console"):
        for name, *words in commands_of(fence):
            if name.rpartition("/")[2] == program:
                yield str(fence), words


def test_marks_and_languages_are_known() -> None:
    assert [str(fence) for fence in fences() if fence.language not in LANGUAGES] == []
    unknown = {
        str(fence): set(fence.words) - NEEDS
        for fence in fences()
        if fence.kind == "needs" and not 0 < len(fence.words) == len(NEEDS & set(fence.words))
    }
    assert unknown == {}


def test_what_is_typed_is_in_a_fence_that_says_so() -> None:
    """A fence without a language is what a program prints."""
    command = re.compile(r"^(\$ |\S*(appliance|curl|python3?|install\.sh) [^:(]*$)", re.MULTILINE)
    assert [str(fence) for fence in in_language("") if command.search(fence.text)] == []


def test_programs_of_others_are_marked() -> None:
    ours = {"appliance", "appliance-convert", "curl", "install.sh", "python"}
    in_the_checkout = {"mypy", "mkdocs", "ruff", "run"}
    found = [
        f"{fence}: {name}"
        for fence in in_language("sh", "console")
        if not fence.kind
        for name, *_ in commands_of(fence)
        if name.rpartition("/")[2] not in ours | in_the_checkout | OF_THE_SHELL
    ]
    assert found == [], "mark it with what it needs"


# --- our own commands -----------------------------------------------------------------


@cache
def raw_parsers() -> dict[str, argparse.ArgumentParser]:
    """By what has to be typed for them."""
    return {
        parser.prog: parser
        for command in COMMANDS
        if isinstance(command, RawCommand)
        for parser in command.parsers()
    }


def read(words: list[str]) -> None:
    """As the command would read them; raises `SystemExit` or an `ApplianceError`."""
    raw = raw_parsers()
    for length in (2, 1):  # `convert plan` before `convert`
        prog = " ".join(["appliance-convert", *words[1:length]])
        if words and words[0] == "convert" and prog in raw:
            raw[prog].parse_args(words[length:])
            return
    before = words[: words.index("--")] if "--" in words else words
    load(ServeSettings, vars(build_parser().parse_args(before)), HOME)


def test_every_command_is_one_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = [(place, ["convert", *words]) for place, words in all_commands("appliance-convert")]
    found += all_commands("appliance")
    assert len(found) > 40
    wrong = []
    for place, words in found:
        try:
            read(words)
        except (SystemExit, Exception) as error:  # noqa: BLE001 - whatever it says
            wrong.append(f"{place}: {words}: {error} {capsys.readouterr().err}")
    assert wrong == []


@cache
def flags() -> frozenset[str]:
    """All that our commands and the installer have."""
    found: set[str] = set()
    parsers = [build_parser(), *raw_parsers().values()]
    while parsers:
        for action in parsers.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    return frozenset(found)


@cache
def installers_flags() -> frozenset[str]:
    command = ["bash", "install.sh", "--help"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return frozenset(re.findall(r"--[\w-]+", shown.stdout))


def flags_in(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")} - {"--"}


def test_the_installers_flags_are_those_that_it_has() -> None:
    unknown = {
        place: flags_in(words) - installers_flags() for place, words in all_commands("install.sh")
    }
    assert {place: found for place, found in unknown.items() if found} == {}


def test_commands_and_flags_within_a_text_are_some_that_there_are() -> None:
    names = {command.name for command in COMMANDS}
    known = flags() | installers_flags() | FLAGS_OF_OTHERS
    unknown = []
    for place, text in spans():
        words = text.split()
        is_ours = place.startswith(FOR_USERS) and not place.startswith(WITH_OTHERS)
        is_flag = text.startswith("--") and is_ours
        if is_flag or words[:1] in (["appliance"], ["appliance-convert"]):
            unknown += [f"{place}: {flag}" for flag in flags_in(words) - known]
        if words[:1] == ["appliance"] and re.fullmatch("[a-z]+", "".join(words[1:2])):
            unknown += [f"{place}: {text}"] if words[1] not in names else []
    assert unknown == []


# --- requests -------------------------------------------------------------------------


async def test_every_request_is_one_that_the_server_takes() -> None:
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, "text", [7, 8, 9], [b"te", b"x", b"t"])
    client.embedded = EmbedResult(1, struct.pack("<f", 0.5), 1, 3)
    names = ("qwen3-4b", "minilm", "embedding", "auto")
    model = ServedModel(id="novels-6m", client=client, created=CREATED, aliases=names)
    app = create_app(Gateway(Router([model]), Admission()))
    refused = []
    async with http_to(app) as http:
        for place, words in all_commands("curl"):
            request = asked(words)
            if request is not None:
                response = await http.request(
                    request.method,
                    request.path,
                    content=request.body,
                    headers=request.headers,
                )
                # 403: taken by a server that keeps usage, or whose models may change
                if response.status_code >= 400 and response.status_code != 403:
                    refused.append(f"{place}: {response.status_code} {response.text}")
    assert refused == []


# --- other languages ------------------------------------------------------------------


def faults(fences: Iterable[Fence], read: Callable[[str], object]) -> list[str]:
    found = []
    for fence in fences:
        try:
            read(fence.text)
        except (ApplianceError, SyntaxError, ValueError, yaml.YAMLError) as error:
            found.append(f"{fence}: {error}")
    return found


def json_values(text: str) -> list[object]:
    """One value, or one on each line."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def test_python_is_python_and_marked() -> None:
    python = in_language("python")
    assert faults(python, lambda text: compile(text, "a page", "exec")) == []
    assert [str(fence) for fence in python if not fence.kind] == [], "run it, or say what it needs"


def test_json_and_yaml_can_be_read() -> None:
    assert faults(in_language("json"), json_values) == []
    assert faults(in_language("yaml"), yaml.safe_load) == []


def test_toml_is_read_as_settings_unless_it_is_of_others(tmp_path: Path) -> None:
    file = tmp_path / "appliance.toml"

    def read_settings(text: str) -> object:
        file.write_text(text, encoding="utf-8")
        if "[fleet]" in text:
            found = read_fleet_file(file)
            return load_table(ServeSettings, found.table, file, flags={}, environ=HOME)
        return load(ServeSettings, {}, {**HOME, CONFIG_VARIABLE: str(file)})

    ours = [fence for fence in in_language("toml") if fence.kind != "needs"]
    assert faults(ours, read_settings) == []
