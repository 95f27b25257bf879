"""`chat` and `run` as entries of the table of commands, with their flags.

Knows nothing of their work.
"""

from __future__ import annotations

import argparse

from appliance.cli.command import Command
from appliance.settings import ServeSettings

SERVER_OPTIONS = (
    "model",
    "ram",
    "ctx",
    "quant",
    "threads",
    "host",
    "port",
    "api_key_file",
    "tls_cert",
    "models_dir",
    "state_dir",
)
_SERVER = (
    "Uses the server at --host and --port, or at --url, if it has MODEL; else starts one for "
    "itself, which nobody else reaches, and ends it with itself."
)


def _chat(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.chat import chat

    return chat.run(settings, args)


def _run(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.chat import one_shot

    return one_shot.run(settings, args)


def _chat_arguments(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument(
        "--load",
        metavar="FILE",
        help="Go on with a conversation that /save wrote",
    )


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        help="What is asked. Standard input, unless it is a terminal, is appended to it",
    )
    _add_common(parser)
    parser.add_argument(
        "--json-schema",
        metavar="FILE",
        help="The answer is JSON that this JSON schema describes",
    )
    parser.add_argument(
        "--image",
        metavar="FILE",
        help="Not yet: no model here sees pictures, so this is refused",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="Print one JSON object with the answer, its tokens and its times",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("--system", metavar="TEXT", help="What the model is told beforehand")
    parser.add_argument(
        "--max-tokens",
        type=positive,
        metavar="TOKENS",
        help="End an answer after so many tokens (default: the server's)",
    )
    parser.add_argument(
        "--temperature",
        type=_temperature,
        metavar="NUMBER",
        help="0 for the likeliest answer; more is more varied (default: the server's)",
    )


def add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        metavar="URL",
        help="Talk to the server there, of any make that speaks OpenAI's API; the "
        "first key of --api-key-file is sent to it",
    )


def positive(text: str) -> int:
    """An argparse type."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0 (got {text!r})")
    return int(text)


def add_counts(parser: argparse._ActionsContainer, *flags: tuple[str, int, str]) -> None:
    """Flags that are whole numbers above 0: each with its default and what it is."""
    for flag, default, text in flags:
        parser.add_argument(
            flag,
            type=positive,
            default=default,
            metavar="NUMBER",
            help=f"{text} (default: {default})",
        )


def _temperature(text: str) -> float:
    """An argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"must be between 0 and 2 (got {text!r})")
    return value


CHAT_COMMANDS = (
    Command(
        name="chat",
        summary="Talk with a model in the terminal",
        description=f"{_SERVER} /help lists what else can be typed; Ctrl-C stops the answer, "
        "Ctrl-D ends. Without a terminal, each line of standard input is a question.",
        run=_chat,
        options=SERVER_OPTIONS,
        add_arguments=_chat_arguments,
    ),
    Command(
        name="run",
        summary="Have a model answer one prompt",
        description=f"{_SERVER} Prints the answer and nothing else. Exit code 3: no model fits; 4: "
        "the answer was cut off by --max-tokens or the end of the context.",
        run=_run,
        options=SERVER_OPTIONS,
        add_arguments=_run_arguments,
    ),
)
