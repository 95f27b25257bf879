"""What an answer is made of, in order: text, reasoning and calls of functions.

Knows no format they are written in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """What is said to the user."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """What the model thinks before it says something."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A call of the function `name`; its arguments follow."""

    name: str


@dataclass(frozen=True)
class CallArguments:
    """The next piece of the call's arguments: together they are a JSON object, if the
    model wrote one.
    """

    text: str


@dataclass(frozen=True)
class CallEnded:
    """The call is complete."""


Part = Text | Reasoning | CallBegun | CallArguments | CallEnded


class Parts:
    """Collects parts; what follows its own kind is joined to it."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def add_text(self, text: str) -> None:
        self.add(Text(text))

    def add_reasoning(self, text: str) -> None:
        self.add(Reasoning(text))

    def begin_call(self, name: str) -> None:
        self.add(CallBegun(name))

    def add_arguments(self, text: str) -> None:
        self.add(CallArguments(text))

    def end_call(self) -> None:
        self.add(CallEnded())

    def add(self, part: Part) -> None:
        if isinstance(part, CallBegun | CallEnded):
            self._parts.append(part)
        elif part.text:
            last = self._parts[-1] if self._parts else None
            if isinstance(last, Text | Reasoning | CallArguments) and type(last) is type(part):
                self._parts[-1] = type(part)(last.text + part.text)
            else:
                self._parts.append(part)

    def take(self) -> list[Part]:
        """What has been collected since the last time."""
        parts, self._parts = self._parts, []
        return parts


def joined(parts: Iterable[Part]) -> list[Part]:
    """The same, however it was cut into pieces."""
    collected = Parts()
    for part in parts:
        collected.add(part)
    return collected.take()
