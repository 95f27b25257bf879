"""The scripts in the shells themselves: what is typed, with Tab, is what then runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.launch.library.recipes import CreatedModel, CreatedModels
from tests.cli.chat.terminal import Terminal
from tests.serve.server import environment
from tests.store.samples import Sample, write_sample

PROMPT = "ready> "
_SET = "PS1=rea''dy'> '"  # so that what is echoed has no prompt in it
# How each begins without anybody's own settings, takes the script, and sets its prompt.
BEGINS = {
    "bash": (
        ("--norc", "--noprofile", "-i"),
        f"source <(appliance completion bash); {_SET}",
    ),
    "zsh": (
        ("-f", "-i"),
        "autoload -U compinit; compinit -u -D; source <(appliance completion zsh); "
        f"unsetopt prompt_sp; {_SET}",
    ),
    "fish": (
        ("--no-config", "-i"),
        "appliance completion fish | source; function fish_prompt; echo -n rea''dy'> '; end",
    ),
}
TYPED = {
    "appliance doc\t": "doctor",
    "appliance doctor --forg\t": "doctor --forget",
    "appliance fit tiny-po\t": "fit tiny-poems",
    "appliance serve mar\t": "serve mario:1b",
    "appliance serve mario:1\t": "serve mario:1b",
    "appliance chat qwen2.5-coder-1\t": "chat qwen2.5-coder-1",  # of two of the catalog
    "appliance keys rot\t": "keys rotate",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a model, another name of it, and `appliance`: where anything but a script or names
    is asked for, it says what.
    """
    models = tmp_path / ".local" / "share" / "appliance" / "models"
    (models / "tiny-poems").mkdir(parents=True)
    write_sample(models / "tiny-poems" / "tiny-poems-Q8_0.gguf", Sample())
    CreatedModels(models).write(CreatedModel(name="mario:1b", argument="tiny-poems"))
    program = tmp_path / "bin" / "appliance"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = completion ] && exec {sys.executable} -m appliance "$@"\n'
        'echo "runs[$*]"\n'
    )
    program.chmod(0o755)
    return tmp_path


@pytest.fixture(params=BEGINS)
def shell(request: pytest.FixtureRequest, home: Path) -> Iterator[Terminal]:
    path = shutil.which(request.param)
    if path is None:
        pytest.skip(f"{request.param} is not installed")
    flags, takes = BEGINS[request.param]
    around = environment(home)
    around["PATH"] = f"{home / 'bin'}:{around['PATH']}"
    terminal = Terminal(flags, around, program=(path,))
    terminal.type(f"{takes}\r")
    yield terminal
    terminal.end()


async def test_what_is_typed_with_tab_runs(shell: Terminal) -> None:
    for typed, runs in TYPED.items():
        await shell.sees(PROMPT)
        shell.type(f"{typed}\r")
        await shell.sees(f"runs[{runs}")
