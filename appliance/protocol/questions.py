"""Questions to a model's vocabulary and template, which need no computing, and to its
slots.

Knows no wire format.
"""

from __future__ import annotations

import enum

from appliance.protocol.record import Record
from appliance.protocol.requests import ChatPrompt, TextPrompt


class Tokenize(Record, frozen=True):
    """Which tokens a prompt becomes;
    the flags are for texts, chats always have both.
    """

    prompt: ChatPrompt | TextPrompt
    adds_special: bool = True  # with the BOS that the model wants
    parses_special: bool = False  # special tokens written in it are such


class Detokenize(Record, frozen=True):
    """The text that was tokenized to these ids."""

    tokens: list[int]
    shows_special: bool = True  # by their names; else special tokens have no text


class RenderChat(Record, frozen=True):
    """What a chat reads after the model's template, before it is tokenized."""

    prompt: ChatPrompt


class DescribeText(Record, frozen=True):
    """The chat template's source as text, empty if the model has none; as pieces, how
    BOS and EOS are written in text, and the source of the template for functions.
    """


class SlotAction(str, enum.Enum):
    """What may be done with what a slot's last request left in the cache."""

    SAVE = "save"  # a copy of it to a file
    RESTORE = "restore"  # from a file, as a prefix that is known
    ERASE = "erase"


class AskSlot(Record, frozen=True):
    """Done between two steps; the result has tokens and bytes as numbers."""

    slot: int
    action: SlotAction
    name: str = ""  # of the file


TextQuestion = Tokenize | Detokenize | RenderChat | DescribeText
Question = TextQuestion | AskSlot
