"""`completion` as an entry of the table of commands. Knows no shell's language."""

from __future__ import annotations

import argparse

from appliance.cli.command import Command
from appliance.settings import ServeSettings

_SHELLS = ("bash", "zsh", "fish")
_NAMES = "names"


def _completion(settings: ServeSettings, args: argparse.Namespace) -> int:
    if args.shell == _NAMES:
        from appliance.cli.completion.names import names_in

        print("\n".join(names_in(settings.models_dir)))
        return 0

    from appliance.cli.completion.scripts import SHELLS
    from appliance.cli.completion.vocabulary import vocabulary_of

    print(SHELLS[args.shell](vocabulary_of(args.parser)), end="")
    return 0


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell",
        choices=(*_SHELLS, _NAMES),
        metavar="SHELL",
        help=f"One of {', '.join(_SHELLS)}; `{_NAMES}` prints what the scripts offer for MODEL",
    )


COMPLETION_COMMANDS = (
    Command(
        name="completion",
        summary="Print a script by which a shell completes commands, flags and models",
        description="bash: `source <(appliance completion bash)` in ~/.bashrc. zsh: the same in "
        "~/.zshrc, behind compinit, with zsh. fish: `appliance completion fish > "
        "~/.config/fish/completions/appliance.fish`.",
        run=_completion,
        options=("models_dir",),
        add_arguments=_completion_arguments,
    ),
)
