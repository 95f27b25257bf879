"""Completion scripts: what they offer is what the parser takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.cli.commands import COMMANDS
from appliance.cli.completion.scripts import SHELLS, fish, zsh
from appliance.cli.completion.vocabulary import CommandWords, Word

FLAGS = ("-h", "--help", "--config", "--models-dir")
WORDS = (
    CommandWords(
        Word("serve", "Serve it's models"),
        (Word("--ctx", "Longest: in tokens", takes_value=True), Word("-n", ""), Word("list", "")),
        takes_model=True,
    ),
)


def script(shell: str, home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell], {"HOME": str(home)}) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("ser",), {"serve"}),
        (("doctor", "--fo"), {"--forget"}),
        (("completion", ""), {"bash", "zsh", "fish", "names", *FLAGS}),
        (("keys", "rot"), {"rotate"}),
        (("doctor", "./mod"), set()),  # the shell offers files
    ],
)
def test_bash_completes(
    typed: tuple[str, ...], offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "completion.bash"
    path.write_text(script("bash", tmp_path, capsys))
    words = " ".join(f"'{word}'" for word in ("appliance", *typed))
    line = " ".join(("appliance", *typed))
    asked = (
        f"source {path}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; COMP_LINE='{line}'; "
        f"COMP_POINT={len(line)}; _appliance"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{asked}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert {*done.stdout.split()} == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_in_every_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, tmp_path, capsys)
    assert [command.name for command in COMMANDS if command.name not in text] == []


def test_zsh_quotes_and_describes() -> None:
    text = zsh(WORDS)
    assert r"entries=('serve:Serve it'\''s models')" in text
    assert "serve) flags=('--ctx:Longest: in tokens' '-n:'); entries=('list:') ;;" in text


def test_fish_quotes_and_describes() -> None:
    assert fish(WORDS).splitlines()[1:] == [
        r"complete -c appliance -f -n __fish_use_subcommand -a serve -d 'Serve it\'s models'",
        "complete -c appliance -n '__fish_seen_subcommand_from serve' "
        "-l ctx -r -d 'Longest: in tokens'",
        "complete -c appliance -n '__fish_seen_subcommand_from serve' -s n",
        "complete -c appliance -n '__fish_seen_subcommand_from serve' -a list",
        "complete -c appliance -n '__fish_seen_subcommand_from serve' -a '(set -l typed "
        "(commandline -opc); $typed[1] completion names 2>/dev/null)'",
    ]
