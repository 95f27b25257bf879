"""The arguments of `appliance keys`. Knows no key and no file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import datetime, timezone

from appliance.cli.command import add_action
from appliance.gateway.accounts.caller import MAX_LIMIT, MAX_PRIORITY
from appliance.settings.options import seconds

ACTIONS = {
    "create": "make a key",
    "list": "all keys",
    "show": "one key's terms, and what it has used today",
    "set": "change a key's terms; those that are not given stay",
    "revoke": "end a key",
    "rotate": "give NAME another key, and end the old one",
}
NONE = "none"
_MAX_S = 100 * 365.25 * 86_400


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    add_action(parser, ACTIONS)
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="Whose key it is: letters, digits and any of . _ @ + -; it stands in logs and metrics",
    )
    parser.add_argument(
        "--models",
        type=_names,
        default=argparse.SUPPRESS,
        metavar="MODEL,MODEL",
        help="Models that it may use, by id or alias; others are not there for it. none: all",
    )
    for flag, what in (
        ("--requests-per-minute", "Requests that it may send in a minute"),
        ("--tokens-per-minute", "Tokens that it may use in a minute, of prompts and answers"),
        ("--tokens-per-day", "Tokens that it may use in a day (UTC), of prompts and answers"),
        ("--concurrent-requests", "Requests that it may have in flight"),
    ):
        parser.add_argument(
            flag,
            type=_count,
            default=argparse.SUPPRESS,
            metavar="N",
            help=f"{what}. none: any number",
        )
    parser.add_argument(
        "--priority",
        type=_priority,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"Its share where requests wait, between 1 and {MAX_PRIORITY} (default: 10)",
    )
    parser.add_argument(
        "--admin",
        dest="is_admin",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="It also sees /metrics, and what everybody uses at /stats and /usage, and makes and "
        "ends keys at /keys; other keys see their own part alone",
    )
    parser.add_argument(
        "--expires",
        dest="expires_s",
        type=_expiry,
        default=argparse.SUPPRESS,
        metavar="WHEN",
        help="When it ends: a duration from now such as 30d, or a date such as 2027-01-31 (its "
        "first moment, UTC). none: never",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of text")


def _argument(allowed: str) -> Callable[[Callable[[str], object]], Callable[[str], object]]:
    """An argparse type that says what is allowed."""

    def named(read: Callable[[str], object]) -> Callable[[str], object]:
        def parsed(text: str) -> object:
            try:
                return read(text.strip())
            except ValueError as error:
                message = f"must be {allowed} (got {text!r})"
                raise argparse.ArgumentTypeError(message) from error

        return parsed

    return named


@_argument(f"a whole number between 1 and {MAX_LIMIT}, or none")
def _count(text: str) -> int | None:
    return None if text == NONE else _whole(text, MAX_LIMIT)


@_argument(f"a whole number between 1 and {MAX_PRIORITY}")
def _priority(text: str) -> int:
    return _whole(text, MAX_PRIORITY)


@_argument("names with commas between them, or none")
def _names(text: str) -> tuple[str, ...] | None:
    if text == NONE:
        return None
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ValueError
    return names


@_argument("a duration such as 30d, a date such as 2027-01-31, or none")
def _expiry(text: str) -> float | None:
    if text == NONE:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007  # made UTC's below
    except ValueError:
        return time.time() + float(str(seconds(1, _MAX_S).read(text)))
    return day.replace(tzinfo=timezone.utc).timestamp()


def _whole(text: str, most: int) -> int:
    value = int(text)
    if not 1 <= value <= most:
        raise ValueError
    return value
