"""`fleet` as an entry of the table of commands, with its flags. Knows nothing of its work."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.cli.chat.commands import add_counts, positive
from appliance.cli.command import Command, add_action
from appliance.errors import BadSettings
from appliance.settings import ServeSettings

ACTIONS = {
    "plan": "how many machines a load needs, on paper",
    "serve": "the fleet that FILE describes, with its head here",
    "join": "this machine becomes a node of the fleet whose head is at ADDRESS",
}


def _fleet(settings: ServeSettings, args: argparse.Namespace) -> int:
    if args.action == "plan":
        from appliance.cli.fleet import plan

        return plan.run(settings, args)
    from appliance.cli.fleet import serve

    if args.what is None:
        what = "FILE, its file of settings" if args.action == "serve" else "ADDRESS, its head's"
        raise BadSettings(f"appliance fleet {args.action} needs {what}.")
    if args.action == "serve":
        return serve.serve(Path(args.what))
    token = None if args.token_file is None else Path(args.token_file)
    return serve.join(args.what, token, settings)


def _above_zero(text: str) -> float:
    """An argparse type."""
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0 (got {text!r})")
    return number


def _fleet_arguments(parser: argparse.ArgumentParser) -> None:
    add_action(parser, ACTIONS)
    parser.add_argument(
        "what",
        nargs="?",
        metavar="MODEL|FILE|ADDRESS",
        help="plan: a model that was served on this machine before, by its name or the beginning "
        "of its file's. serve: the fleet's file. join: HOST:PORT, as `ray` in that file's [fleet] "
        "has it",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="join: a copy of the head's fleet-token (default: the one in the state directory)",
    )
    _add_plan_flags(parser.add_argument_group("for plan"))


def _add_plan_flags(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--node",
        metavar="FILE",
        help="What was measured on another machine instead: a file of `step-times` in its state "
        "directory",
    )
    parser.add_argument(
        "--requests-per-day", type=_above_zero, metavar="NUMBER", help="Of all users"
    )
    add_counts(
        parser,
        ("--prompt", 200, "Tokens that a turn's prompt adds to its chat"),
        ("--answer", 200, "Tokens of an answer"),
        ("--turns", 1, "Turns of a chat"),
    )
    parser.add_argument(
        "--system",
        type=positive,
        default=0,
        metavar="NUMBER",
        help="Tokens in front of every chat, the same for all (default: none)",
    )
    for flag, value, text in (
        ("--peak", 2.5, "Requests of the busiest hour, as a multiple of the mean hour's"),
        ("--first-token-s", 2.0, "Seconds to the first token that 95 of 100 requests keep to"),
    ):
        parser.add_argument(
            flag,
            type=_above_zero,
            default=value,
            metavar="NUMBER",
            help=f"{text} (default: {value:g})",
        )
    parser.add_argument(
        "--policy",
        choices=("prefix", "least_tokens", "round_robin", "random2"),
        default="prefix",
        help="How requests are routed (default: prefix)",
    )
    parser.add_argument(
        "--k8s",
        action="store_true",
        help="Print values for the Helm chart in deploy/helm/appliance instead of a table",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )


FLEET_COMMANDS = (
    Command(
        name="fleet",
        summary="Several machines: plan them, serve them behind one address, join them",
        description="`appliance fleet serve FILE` serves what FILE describes, on this machine and "
        "on those that join it with `appliance fleet join ADDRESS`. `appliance fleet plan MODEL "
        "--requests-per-day N`: nodes like this machine for the busiest hour of a day, by a "
        "formula and by a simulation with the scheduler itself and the step times that were "
        "measured here, and what they cost with --price-per-hour, --watts and --gco2-per-kwh. Exit "
        "code 1: it cannot be done, or nothing was measured.",
        run=_fleet,
        options=("price_per_hour", "watts", "gco2_per_kwh", "state_dir"),
        add_arguments=_fleet_arguments,
    ),
)
