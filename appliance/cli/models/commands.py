"""`show` as an entry of the table of commands, with its flags. Knows nothing of its work."""

from __future__ import annotations

import argparse

from appliance.cli.command import Command
from appliance.settings import FIT_OPTIONS, ServeSettings


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
        name="show",
        summary="Show what a model on this machine is, and how it would be served",
        description="Prints architecture, size, the context that it was trained for, licence, "
        "template and files, and what of it fits this machine. Downloads and converts nothing.",
        run=_show,
        options=FIT_OPTIONS,
        add_arguments=_show_arguments,
    ),
)
