"""Completion scripts for bash, zsh and fish. Knows no command by name.

Where nothing of ours goes on, files are offered: MODEL may be one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.cli.completion.vocabulary import CommandWords, Word


def bash(commands: Sequence[CommandWords]) -> str:
    cases = "\n".join(
        f"        {each.command.text}) words='{' '.join(word.text for word in each.words)}' ;;"
        for each in commands
    )
    names = " ".join(each.command.text for each in commands)
    return f"""\
# bash completion for appliance
_appliance() {{
    local words=''
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='{names} --help --version --debug'
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _appliance appliance
"""


def zsh(commands: Sequence[CommandWords]) -> str:
    cases = "\n".join(
        f"        {each.command.text}) entries=({' '.join(map(_zsh_entry, each.words))}) ;;"
        for each in commands
    )
    names = " ".join(_zsh_entry(each.command) for each in commands)
    return f"""\
#compdef appliance
_appliance() {{
    local -a entries
    if (( CURRENT == 2 )); then
        entries=({names})
        _describe command entries
        return
    fi
    case $words[2] in
{cases}
    esac
    _describe -o argument entries || _files
}}
if [ "$funcstack[1]" = _appliance ]; then
    _appliance "$@"
else
    compdef _appliance appliance
fi
"""


def fish(commands: Sequence[CommandWords]) -> str:
    lines = ["# fish completion for appliance"]
    for each in commands:
        name, text = each.command.text, _fish_quoted(each.command.help)
        lines.append(f"complete -c appliance -f -n __fish_use_subcommand -a {name} -d {text}")
        seen = f"complete -c appliance -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{seen} {_fish_word(word)}" for word in each.words]
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[Sequence[CommandWords]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}


def _zsh_entry(word: Word) -> str:
    text = f"{word.text}:{word.help}".replace("'", "'\\''")
    return f"'{text}'"


def _fish_word(word: Word) -> str:
    described = f" -d {_fish_quoted(word.help)}" if word.help else ""
    value = " -r" if word.takes_value else ""
    if word.text.startswith("--"):
        return f"-l {word.text[2:]}{value}{described}"
    if word.text.startswith("-"):
        return f"-s {word.text[1:]}{value}{described}"
    return f"-a {word.text}{described}"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
