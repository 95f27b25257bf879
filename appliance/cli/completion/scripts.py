"""Completion scripts for bash, zsh and fish. Knows no command by name.

Names of models are asked for when they are wanted: `appliance completion names` takes a
quarter of a second. Where nothing of ours goes on, files are offered: MODEL may be one.
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
    # bash takes the parts of a word around `:` for words of their own
    return f"""\
# bash completion for appliance
_appliance() {{
    local words='' current="${{COMP_LINE:0:COMP_POINT}}"
    current="${{current##*[[:space:]]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='{names} --help --version --debug'
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
        case "$current ${{COMP_WORDS[1]}}" in
            -*) ;;
            {"|".join(f"*' '{name}" for name in _with_models(commands))})
                words="$words $("${{COMP_WORDS[0]}}" completion names 2>/dev/null)" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ $COMP_WORDBREAKS == *:* ]]; then
        local before="${{current%"${{current##*:}}"}}"
        COMPREPLY=("${{COMPREPLY[@]#"$before"}}")
    fi
}}
complete -o default -F _appliance appliance
"""


def zsh(commands: Sequence[CommandWords]) -> str:
    cases = "\n".join(
        f"        {each.command.text}) flags=({_zsh_entries(each, are_flags=True)}); "
        f"entries=({_zsh_entries(each, are_flags=False)}) ;;"
        for each in commands
    )
    names = " ".join(_zsh_entry(each.command) for each in commands)
    return f"""\
#compdef appliance
_appliance() {{
    local -a flags entries
    if (( CURRENT == 2 )); then
        entries=({names})
        _describe command entries
        return
    fi
    case $words[2] in
{cases}
    esac
    if [[ $PREFIX == -* ]]; then
        _describe -o option flags && return
    elif [[ $words[2] == ({"|".join(_with_models(commands))}) ]]; then
        compadd -- ${{(f)"$($words[1] completion names 2>/dev/null)"}} && return
    fi
    _describe argument entries || _files
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
    names = "(set -l typed (commandline -opc); $typed[1] completion names 2>/dev/null)"
    seen = f"__fish_seen_subcommand_from {' '.join(_with_models(commands))}"
    lines.append(f"complete -c appliance -n '{seen}' -a '{names}'")
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[Sequence[CommandWords]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}


def _with_models(commands: Sequence[CommandWords]) -> list[str]:
    return [each.command.text for each in commands if each.takes_model]


def _zsh_entries(command: CommandWords, *, are_flags: bool) -> str:
    chosen = (word for word in command.words if word.text.startswith("-") == are_flags)
    return " ".join(map(_zsh_entry, chosen))


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
