"""Commands about models as entries of the table of commands, with their flags.

Knows nothing of their work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.cli.command import Command
from appliance.settings import FIT_OPTIONS, ServeSettings


def _pull(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.models import pull

    return pull.run(settings, from_dir=args.from_dir)


def _pull_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from-dir",
        type=Path,
        metavar="DIR",
        help="Take files that DIR has, such as a USB stick, from there. Where DIR is a models "
        "directory of another machine that has the model, the hub is not asked at all",
    )


def _list(settings: ServeSettings, args: argparse.Namespace) -> int:
    if args.available:
        from appliance.cli.catalog import available

        return available.run(settings, as_json=args.json)

    from appliance.cli.models import list as list_

    return list_.run(settings, as_json=args.json)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--available",
        action="store_true",
        help="List the models of the catalog that fit this machine instead, with the quantization, "
        "what it would take, and how fast it could be. Nothing is downloaded",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON array instead of lines")


def _rm(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli.models import rm

    return rm.run(settings)


def _import(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.models import importing

    return importing.run(settings, args)


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="`ollama`, `lmstudio`, or the path of a .gguf file",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="Only these models of the program (default: all of them)",
    )
    parser.add_argument(
        "--from-dir",
        type=Path,
        metavar="DIR",
        help="The program's folder of models, where it is not in its usual place",
    )
    parser.add_argument(
        "--copy",
        action="store_true",
        help="Copy the files, where the file system cannot share them",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="Say what would be done, and do nothing"
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON array instead of lines")


def _alias(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.models import alias

    return alias.run(settings, args.alias_name, args.alias_of, as_json=args.json)


def _alias_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "alias_name", nargs="?", metavar="NAME", help="The new name; without it, names are listed"
    )
    parser.add_argument(
        "alias_of",
        nargs="?",
        metavar="MODEL",
        help="The model, as `serve` takes it: a name, a path, org/repo[:QUANT]",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON array instead of lines")


def _show(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.models import show

    return show.run(settings, as_json=args.json, only_template=args.template)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--template", action="store_true", help="Print the chat template and nothing else"
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of lines"
    )


MODEL_COMMANDS = (
    Command(
        name="pull",
        summary="Download a model from a hub: what fits this machine, and nothing else",
        description="MODEL is `org/repo` or `org/repo:QUANT` on huggingface.co, or on the hub at "
        "HF_ENDPOINT, or a name that `list --available` shows. Reads the headers first, then "
        "downloads what `fit` chooses, checks it, and converts it if it is a checkpoint. An "
        "interrupted download continues where it stopped. Exit code 3: nothing fits.",
        run=_pull,
        options=FIT_OPTIONS,
        add_arguments=_pull_arguments,
    ),
    Command(
        name="import",
        summary="Use models that Ollama or LM Studio has downloaded, or a GGUF file, as its own",
        description="Puts models of SOURCE into the models directory, checked as downloaded ones "
        "are, and without a second copy on the disk: the files share their blocks, or are one file "
        "with two names. Of Ollama's models, names, system messages, parameters and first messages "
        "are kept. Exit code 1: one of the models cannot be used.",
        run=_import,
        options=("models_dir",),
        add_arguments=_import_arguments,
    ),
    Command(
        name="list",
        summary="List the models on this machine",
        description="Lists every model by name: those that come with the appliance, and those in "
        "the models directory; with --available those of the catalog that would fit this machine.",
        run=_list,
        options=("models_dir", "ram", "state_dir"),
        add_arguments=_list_arguments,
    ),
    Command(
        name="show",
        summary="Show what a model on this machine is, and how it would be served",
        description="Prints architecture, size, the context that it was trained for, licence, "
        "template and files, and what of it fits this machine. Nothing of it is downloaded or "
        "converted.",
        run=_show,
        options=FIT_OPTIONS,
        add_arguments=_show_arguments,
    ),
    Command(
        name="alias",
        summary="Give a model a name of your own, or list such names",
        description="Every command takes NAME for MODEL from then on. `rm NAME` takes the name "
        "away, and leaves the model. A server knows the names that it is started with; with "
        "--all-models it serves all of them.",
        run=_alias,
        options=("models_dir",),
        add_arguments=_alias_arguments,
    ),
    Command(
        name="rm",
        summary="Delete a model from the models directory",
        description="MODEL is a name that `list` shows, or the `org/repo` that it was downloaded "
        "from. Deletes all of its files, and nothing outside the models directory. Of a name that "
        "`alias` or a server gave, only the name.",
        run=_rm,
        options=("model", "models_dir"),
    ),
)
