"""`appliance launch`: sets an agent up for the running server, and starts it.

Knows no agent's configuration, and not how a model is loaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from appliance.cli.agents.agent import Agent, Setup, Target
from appliance.cli.agents.shell import environment_of
from appliance.cli.agents.showing import as_text, listing
from appliance.cli.agents.suitability import Judgement, ServedModel, judge
from appliance.cli.agents.table import AGENTS, find_agent
from appliance.cli.agents.writing import change_file, write_own
from appliance.cli.running_server import RunningServer
from appliance.errors import ApplianceError, BadSettings
from appliance.loopback import is_local
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog

_LOAD_S = 600.0  # the server itself gives up before, after its --load-wait-s


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Does not return where an agent is started, whose process this one becomes.

    Raises `ApplianceError` if no server answers, or nobody can be asked whether to go on.
    """
    if args.agent is None:
        print(listing(AGENTS))
        return 0
    agent = find_agent(args.agent)
    if args.only_print and args.write:
        raise BadSettings("--print and --write exclude each other. Give one of them.")
    target, judgement = _look(agent, settings, args.served_model)
    setup = agent.set_up(target)
    for sentence in (*judgement.problems, *judgement.remarks):
        print(sentence, file=sys.stderr)
    if args.write:
        return _write(agent, setup, yes=args.yes)
    if args.only_print or agent.command is None:
        print(as_text(agent, setup, target, args.passed_on))
        return 0
    if judgement.problems and not _allows("Go on all the same?", yes=args.yes):
        return 1
    return _start(agent, agent.command, setup, target, args.passed_on)


def _look(agent: Agent, settings: ServeSettings, name: str | None) -> tuple[Target, Judgement]:
    """Asks the server; it loads the model, which the agent would have it do next."""
    server = RunningServer.of(settings)
    url = server.url  # first: a Unix socket has none, and agents know no other way
    server.processes()  # at once: whether a server of ours answers at all
    model_id = server.properties(name, timeout_s=_LOAD_S)["model_alias"]
    models = [ServedModel.of(record) for record in server.processes()["models"]]
    model = next((each for each in models if each.id == model_id), None)
    if model is None or model.ctx is None:
        raise ApplianceError(f"The server has just unloaded {model_id}. Try again.")
    target = Target(
        url=url,
        is_local=is_local(settings.host),
        model=model.id,
        ctx=model.ctx,
        tool_use=model.tool_use or "none",
        key=server.key,
        key_file=None if settings.api_key_file is None else settings.api_key_file.absolute(),
        home=Path.home(),
        environ=os.environ,
        own_folder=settings.state_dir.absolute() / "agents",
    )
    return target, judge(agent, model, models, load_catalog().for_agents)


def _write(agent: Agent, setup: Setup, *, yes: bool) -> int:
    """Raises `ApplianceError` where there is nothing to write, or it cannot be."""
    if not setup.changes:
        raise ApplianceError(
            f"{agent.title} has no file for this. 'appliance launch {agent.name} --print' shows "
            "what to do."
        )
    changed = [
        change_file(change, allows=lambda question: _allows(question, yes=yes), say=print)
        for change in setup.changes
    ]
    for text in (setup.once_written, *setup.remarks):
        if text:
            print(text)
    return 0 if all(changed) else 1


def _start(
    agent: Agent, command: str, setup: Setup, target: Target, passed_on: Sequence[str]
) -> NoReturn:
    """Raises `ApplianceError` where the agent is not installed."""
    program = shutil.which(command)
    if program is None:
        print(as_text(agent, setup, target, passed_on))
        raise ApplianceError(f"{agent.title} is not installed. To install it: {agent.installing}")
    for path, text in setup.own_files.items():
        write_own(path, text)
    for remark in setup.remarks:
        print(remark, file=sys.stderr)
    sys.stdout.flush()
    words = [command, *setup.arguments, *passed_on]
    os.execve(program, words, environment_of(setup, target))


def _allows(question: str, *, yes: bool) -> bool:
    """Asks on the terminal. Raises `ApplianceError` where there is none."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ApplianceError(f"{question} There is no terminal to ask on: give --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
