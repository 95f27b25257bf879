"""`appliance run`: one prompt, one answer.

Knows no server's format and no Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from appliance.cli.chat.answering import Answer, pieces
from appliance.cli.chat.conversation import Conversation
from appliance.cli.chat.finding import found_server
from appliance.cli.chat.pictures import refuse_picture
from appliance.cli.chat.reading import take_any_bytes
from appliance.cli.chat.showing import PlainScreen, screen_for
from appliance.errors import BadSettings
from appliance.settings import ServeSettings

EXIT_CUT_OFF = 4


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Raises `ApplianceError` if no server answers and none can be started, or it refuses
    or fails.
    """
    if args.image is not None:
        refuse_picture(args.image)
    conversation = Conversation(system=args.system)
    conversation.ask(_prompt(args.prompt))
    schema = _schema(args.json_schema)
    for name in ("max_tokens", "temperature"):
        if (value := getattr(args, name)) is not None:
            conversation.params[name] = value
    answer = Answer()
    with found_server(settings, args) as found:
        conversation.model = found.model
        reading = pieces(found.server, {**conversation.request(), **schema}, answer)
        with contextlib.closing(reading):
            if args.json:
                for _ in reading:
                    pass
                print(json.dumps(_record(found.model, answer), ensure_ascii=False, indent=2))
            else:
                # JSON is for programs, and no Markdown
                with PlainScreen(sys.stdout) if schema else screen_for(sys.stdout) as screen:
                    for piece in reading:
                        screen.write(piece)
    return EXIT_CUT_OFF if answer.finish_reason == "length" else 0


def _prompt(given: str | None) -> str:
    """Raises `BadSettings` where there is none."""
    take_any_bytes()
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    prompt = "\n\n".join(part for part in (given, piped.strip("\n")) if part)
    if not prompt:
        raise BadSettings("There is no prompt. Give it behind MODEL, or on standard input.")
    return prompt


def _schema(path: str | None) -> dict[str, Any]:
    """The field of the request that asks for it. Raises `BadSettings`."""
    if path is None:
        return {}
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"--json-schema {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadSettings(f"--json-schema {path} is no JSON: {error}.") from error
    form = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def _record(model: str, answer: Answer) -> dict[str, Any]:
    return {
        "model": model,
        "text": answer.text,
        "reasoning": answer.reasoning or None,
        "finish_reason": answer.finish_reason,
        "num_prompt_tokens": answer.num_prompt_tokens,
        "num_cached_tokens": answer.num_cached_tokens,
        "num_tokens": answer.num_tokens,
        "first_token_s": answer.first_token_s,
        "tokens_per_s": answer.tokens_per_s,
    }
