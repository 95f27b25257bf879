"""The list of subcommands: name, summary, flags, and what runs. Knows no command's work.

A subcommand is a module `appliance.cli.NAME`, imported only when it runs, so that
`appliance fit` need not load a web server. It has one function:

- `run(settings: ServeSettings, args: argparse.Namespace) -> int` where its flags come
  from the settings declarations (`options` names them, None: all) - the settings are
  loaded before, from every source;
- `run_raw(argv: list[str]) -> int` where it parses its own arguments.

It returns the exit code, or raises an `ApplianceError` that `main` prints and turns
into one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from appliance.settings import FIT_OPTIONS, ServeSettings
from appliance.settings.options import seconds


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand whose flags are settings; `options` are those it shows, None: all."""

    name: str
    summary: str
    description: str
    run: Callable[[ServeSettings, argparse.Namespace], int]
    options: tuple[str, ...] | None = None
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None


@dataclass(frozen=True)
class RawCommand:
    """A subcommand that parses its own arguments; `parsers` are its own and those of
    what it knows below it.
    """

    name: str
    summary: str
    run_raw: Callable[[list[str]], int]
    parsers: Callable[[], list[argparse.ArgumentParser]]


def _serve(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli import serve

    return serve.run(settings)


def _fit(settings: ServeSettings, args: argparse.Namespace) -> int:
    if args.device:
        from appliance.cli import device

        return device.run(settings, as_json=args.json)

    from appliance.cli import fit

    return fit.run(settings, as_json=args.json)


def _tune(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import tune

    return tune.run(settings, seconds=args.seconds, as_json=args.json)


def _seconds(text: str) -> float:
    """An argparse type."""
    allowed = seconds(1, 3600)
    try:
        return float(str(allowed.read(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed, but {allowed.allowed} is"
        ) from error


def _tune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of tables"
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="How long to measure, beside loading the model (default: 60)",
    )


def _pull(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli import pull

    return pull.run(settings)


def _list(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli import list as list_

    return list_.run(settings)


def _rm(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli import rm

    return rm.run(settings)


def _ps(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli import ps

    return ps.run(settings, as_json=args.json)


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
        help="Take back CPU paths that were given up after a crash of a worker",
    )


def _ps_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )


def _fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        action="store_true",
        help="Print what this machine has to offer instead, whatever the model",
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
        description="Serves models behind an OpenAI-compatible HTTP API. A checkpoint is converted first; "
        "the quantization, the context and the size of the KV cache are chosen to fit this "
        "machine unless they are given. Of several models the first is loaded at the start, each "
        "other with its first request; they share one memory budget.",
        run=_serve,
    ),
    Command(
        name="fit",
        summary="Show what would be served on this machine, and why",
        description="Prints every quantization of a model with the memory it would take on this machine, "
        "which one `serve` would choose, and why. A checkpoint is converted first; of a "
        "repository on a hub only headers are fetched. Exit code 3: nothing fits.",
        run=_fit,
        options=FIT_OPTIONS,
        add_arguments=_fit_arguments,
    ),
    Command(
        name="tune",
        summary="Measure how a model is computed best on this machine",
        description="Times the model itself with other threads, CPU paths, attention and sizes of steps, "
        "each against the best so far, in child processes; remembers what clearly won, with the "
        "evidence, for `serve`. What is set by flags stays as it is. `serve` measures the most "
        "important choices itself at its first start with a model.",
        run=_tune,
        options=FIT_OPTIONS,
        add_arguments=_tune_arguments,
    ),
    Command(
        name="pull",
        summary="Fetch a model from a hub: what fits this machine, and only that",
        description="MODEL is `org/repo` or `org/repo:QUANT` on huggingface.co, or where HF_ENDPOINT points. "
        "Headers are read first; what `fit` chooses is fetched, checked, and converted if it is "
        "a checkpoint. What was ended goes on where it was. Exit code 3: nothing fits.",
        run=_pull,
        options=FIT_OPTIONS,
    ),
    Command(
        name="list",
        summary="List the models that are here",
        description="Every model with a name: those that come with the appliance, and those in the models "
        "directory.",
        run=_list,
        options=("models_dir",),
    ),
    Command(
        name="rm",
        summary="Delete a model from the models directory",
        description="MODEL is a name that `list` shows, or the `org/repo` that it was pulled from. All of "
        "its files are deleted, and nothing outside the models directory.",
        run=_rm,
        options=("model", "models_dir"),
    ),
    Command(
        name="ps",
        summary="Show what a running server has loaded, and what it takes",
        description="Asks the server that listens on --host and --port: its processes, their memory as "
        "predicted and as it is, tokens per second, requests, and when each model will be "
        "unloaded. With --api-key-file, the first key in it is used. Exit code 1: no server "
        "answers.",
        run=_ps,
        options=("host", "port", "api_key_file"),
        add_arguments=_ps_arguments,
    ),
    Command(
        name="doctor",
        summary="Check this machine, and what on it makes serving slow or impossible",
        description="Tries every CPU path of llama.cpp in child processes and remembers for `serve` which of "
        "them work; looks at GPUs, memory, cores, disk, versions, models and the running "
        "service. Some seconds. Exit code 1: something makes serving impossible.",
        run=_doctor,
        options=("threads", "host", "port", "models_dir", "state_dir"),
        add_arguments=_doctor_arguments,
    ),
    RawCommand(
        "convert",
        "Convert a checkpoint to GGUF (the same command as appliance-convert)",
        _convert,
        _convert_parsers,
    ),
)
