"""The list of subcommands: name, summary, flags, and what runs.

Knows no command's work.

A subcommand is a module `appliance.cli.NAME`, or one of a room, imported only when it runs,
so that `appliance fit` need not load a web server.
"""

from __future__ import annotations

import argparse

from appliance.cli.bench.commands import BENCH_COMMANDS
from appliance.cli.chat.commands import CHAT_COMMANDS
from appliance.cli.command import Command, RawCommand, argument_type
from appliance.cli.completion.commands import COMPLETION_COMMANDS
from appliance.cli.fleet.commands import FLEET_COMMANDS
from appliance.cli.keys.arguments import add_key_arguments
from appliance.cli.models.commands import MODEL_COMMANDS
from appliance.cli.rpc.commands import RPC_COMMANDS
from appliance.cli.running.commands import REACHED_BY, RUNNING_COMMANDS
from appliance.settings import FIT_OPTIONS, ServeSettings
from appliance.settings.options import seconds


def _serve(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import serve

    return serve.run(settings, args.read_settings)


def _fit(settings: ServeSettings, args: argparse.Namespace) -> int:
    if args.device:
        from appliance.cli import device

        return device.run(settings, as_json=args.json)

    from appliance.cli import fit

    return fit.run(settings, as_json=args.json)


def _tune(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import tune

    return tune.run(settings, seconds=args.seconds, as_json=args.json)


def _tune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of tables"
    )
    parser.add_argument(
        "--seconds",
        type=argument_type(seconds(1, 3600)),
        default=60.0,
        metavar="DURATION",
        help="How long to measure, not counting the time to load the model: seconds, or a duration "
        "such as 2m (default: 60)",
    )


def _ps(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import ps

    return ps.run(settings, as_json=args.json)


def _keys(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.keys import command

    return command.run(settings, args)


def _usage(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.usage import command

    return command.run(settings, args)


def _usage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by",
        default="key,model",
        metavar="NAMES",
        help="By what usage is told apart: any of key, model and day, joined by commas (default: "
        "key,model)",
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="Only what was used since then: a day such as 2026-11-01 (UTC), or how long ago, such "
        "as 7d or 12h",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )


def _doctor(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import doctor

    return doctor.run(settings, as_json=args.json, forget=args.forget)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="Reinstate CPU paths that were given up after a worker crashed",
    )


def _launch(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import launch

    return launch.run(settings, args)


def _launch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "agent",
        nargs="?",
        metavar="AGENT",
        help="The agent, by the name that `appliance launch` alone lists",
    )
    parser.add_argument(
        "--model",
        dest="served_model",
        metavar="NAME",
        help="Model of the server that the agent uses (default: the server's first)",
    )
    parser.add_argument(
        "--print",
        dest="only_print",
        action="store_true",
        help="Start and write nothing: print the agent's configuration",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="Start nothing: add the server to the agent's own configuration file. Shows what "
        "changes, asks before it changes a file that is there, and keeps a copy of it",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="Ask nothing: change files that are there, and start the agent also where the model "
        "does not suffice",
    )


def _ps_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )


def _fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        action="store_true",
        help="Print what this machine has to offer instead; MODEL is ignored",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )


def _convert(argv: list[str]) -> int:
    from convert.__main__ import main

    return main(argv)


def _convert_parsers() -> list[argparse.ArgumentParser]:
    from convert.__main__ import parsers

    return parsers()


COMMANDS: tuple[Command | RawCommand, ...] = (
    Command(
        name="serve",
        summary="Serve models over HTTP",
        description="Serves models through an OpenAI-compatible HTTP API. A checkpoint is "
        "converted first. The quantization, the context and the size of the KV cache are chosen "
        "to fit this machine unless they are given. The first of several models is loaded at the "
        "start, each of the others with its first request; all share one memory budget.",
        run=_serve,
    ),
    Command(
        name="fit",
        summary="Show what would be served on this machine, and why",
        description="Prints every quantization of a model with the memory it would take on this "
        "machine, which one `serve` would choose, and why. A checkpoint is converted first; from a "
        "repository on a hub, only headers are downloaded. Exit code 3: nothing fits.",
        run=_fit,
        options=FIT_OPTIONS,
        add_arguments=_fit_arguments,
    ),
    *CHAT_COMMANDS,
    *BENCH_COMMANDS,
    Command(
        name="tune",
        summary="Measure how a model runs fastest on this machine",
        description="Times the model with other numbers of threads, CPU paths, kinds of attention "
        "and step sizes, each against the best so far, in child processes. Stores what clearly "
        "won, with the evidence, for `serve`. Options that you give stay as given. `serve` itself "
        "measures the most important choices when it serves a model for the first time.",
        run=_tune,
        options=FIT_OPTIONS,
        add_arguments=_tune_arguments,
    ),
    *MODEL_COMMANDS,
    Command(
        name="ps",
        summary="Show which models a running server has loaded, and what they take",
        description="Asks the server at --host and --port for its processes, their predicted and "
        "real memory, tokens per second, requests, and when each model will be unloaded. Uses the "
        "first key in --api-key-file, if given. Exit code 1: no server answers.",
        run=_ps,
        options=REACHED_BY,
        add_arguments=_ps_arguments,
    ),
    *RUNNING_COMMANDS,
    Command(
        name="usage",
        summary="Show what each key and each model has used, and what that cost",
        description="Requests, tokens and the seconds in which the machine computed them, as a "
        "server with the same --state-dir has written them down. With --price-per-hour what they "
        "cost, with --watts or a machine that shows its power their energy, with --gco2-per-kwh "
        "their emissions.",
        run=_usage,
        options=("price_per_hour", "watts", "gco2_per_kwh", "state_dir"),
        add_arguments=_usage_arguments,
    ),
    *FLEET_COMMANDS,
    *RPC_COMMANDS,
    Command(
        name="launch",
        summary="Start a coding agent or another client with a model of a running server",
        description="Sets AGENT up for the server at --host and --port, and starts it; what stands "
        'behind -- are its own arguments: `appliance launch claude -- -p "What is here?"`. Loads '
        "the model, and says whether its context and its function calls suffice for the agent, and "
        "what would. The agent's own configuration stays as it is without --write. Exit code 1: no "
        "server answers, the model does not suffice, or the agent is not installed.",
        run=_launch,
        options=("host", "port", "api_key_file", "tls_cert", "state_dir"),
        add_arguments=_launch_arguments,
        passes_on=True,
    ),
    Command(
        name="keys",
        summary="Make, list, change and end API keys, and say what each may use",
        description="The keys are in --state-dir; of each only a hash is kept, and the key itself "
        "is shown once. A running server follows within a second. Where there is a key, nobody is "
        "answered without one, also when all are revoked.",
        run=_keys,
        options=("state_dir",),
        add_arguments=add_key_arguments,
    ),
    Command(
        name="doctor",
        summary="Check this machine for anything that makes serving slow or impossible",
        description="Tests every CPU path of llama.cpp in child processes and remembers which of "
        "them work, for `serve`. Also checks GPUs, memory, cores, disk, versions, models and the "
        "running service. Takes some seconds. Exit code 1: something makes serving impossible.",
        run=_doctor,
        options=("threads", "rpc", "host", "port", "tls_cert", "models_dir", "state_dir"),
        add_arguments=_doctor_arguments,
    ),
    *COMPLETION_COMMANDS,
    RawCommand(
        "convert",
        "Convert a checkpoint to GGUF (the same command as appliance-convert)",
        _convert,
        _convert_parsers,
    ),
)
