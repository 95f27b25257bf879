"""What is said and how it is to be answered, as a request and as a file.

Knows no server and no terminal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance.errors import BadSettings

# what /params may set: fields of OpenAI's request and what local servers add to it
WHOLE_NUMBERS = ("max_tokens", "seed", "top_k")
FRACTIONS = (
    "temperature",
    "top_p",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
)


# as servers of every make have them; of the others they know the limits themselves
_RANGES = {
    "max_tokens": (1, 2**31 - 1),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}


class Message(msgspec.Struct):
    role: Literal["user", "assistant"]
    content: str


class Conversation(msgspec.Struct, kw_only=True):
    """Its fields are those of the file."""

    model: str | None = None
    system: str | None = None
    params: dict[str, int | float] = {}
    messages: list[Message] = []

    def request(self) -> dict[str, Any]:
        """The body for /v1/chat/completions, whose last message is to be answered."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        model = {} if self.model is None else {"model": self.model}
        return {
            **model,
            "messages": [*system, *msgspec.to_builtins(self.messages)],
            **self.params,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def ask(self, text: str) -> None:
        """Raises `BadSettings` for a text with bytes that were no UTF-8."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadSettings(
                f"What was given is not UTF-8, from its character {error.start + 1} on. 'iconv -f "
                "latin1 -t utf-8' converts a file that is Latin-1."
            ) from error
        self.messages.append(Message("user", text))

    def answered(self, text: str) -> None:
        """An empty answer takes its question with it: some templates allow no two
        questions in a row.
        """
        if text:
            self.messages.append(Message("assistant", text))
        else:
            self.messages.pop()

    def take_back(self) -> str | None:
        """Drops the last question with its answer, and returns it; None if there is none."""
        while self.messages:
            message = self.messages.pop()
            if message.role == "user":
                return message.content
        return None

    def set_param(self, text: str) -> None:
        """`NAME=VALUE`, or `NAME=` for the server's default. Raises `BadSettings`."""
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in WHOLE_NUMBERS + FRACTIONS:
            allowed = ", ".join(sorted(WHOLE_NUMBERS + FRACTIONS))
            raise BadSettings(f"There is no parameter {name!r}. There are {allowed}.")
        if not value:
            self.params.pop(name, None)
            return
        try:
            number = int(value) if name in WHOLE_NUMBERS else float(value)
        except ValueError:
            kind = "a whole number" if name in WHOLE_NUMBERS else "a number"
            raise BadSettings(f"{name} must be {kind} (got {value!r}).") from None
        low, high = _RANGES.get(name, (number, number))
        if not low <= number <= high:
            raise BadSettings(f"{name} must be between {low} and {high} (got {value!r}).")
        self.params[name] = number


class _Saved(Conversation, kw_only=True):
    """One as it is saved: every other JSON object lacks what was said."""

    messages: list[Message]


def read_conversation(path: Path) -> Conversation:
    """Raises `BadSettings` where the file cannot be read, or holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} holds no conversation that was saved here: {error}.") from error


def write_conversation(path: Path, conversation: Conversation) -> None:
    """Replaces another conversation, and no other file. Raises `BadSettings`."""
    if path.exists():
        read_conversation(path)
    text = msgspec.json.format(msgspec.json.encode(conversation), indent=2) + b"\n"
    try:
        path.write_bytes(text)
    except OSError as error:
        raise BadSettings(f"{path} cannot be written: {error.strerror}.") from error
