"""What a model's vocabulary and template are asked, without computing anything.

Knows no wire format.
"""

from __future__ import annotations

from appliance.protocol.record import Record
from appliance.protocol.requests import ChatPrompt, TextPrompt


class Tokenize(Record, frozen=True):
    """Which tokens a prompt becomes. Of a text, `adds_special` with the BOS that the
    model wants, and `parses_special` with special tokens that are written in it; chats
    always so.
    """

    prompt: ChatPrompt | TextPrompt
    adds_special: bool = True
    parses_special: bool = False


class Detokenize(Record, frozen=True):
    """The text of token ids; control tokens have none."""

    tokens: list[int]


class RenderChat(Record, frozen=True):
    """What a chat reads after the model's template, before it is tokenized."""

    prompt: ChatPrompt


class DescribeText(Record, frozen=True):
    """The chat template's source as text, empty if the model has none; as pieces, how
    BOS and EOS are written.
    """


Question = Tokenize | Detokenize | RenderChat | DescribeText
"""What a model's vocabulary and template answer, without computing anything."""
