"""Options of one model: how a conversation with it is written.

Knows no source, no server and no template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.options import Option

CHAT = "Chat"


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Part of `ModelSettings`."""

    chat_template: Annotated[
        str | None,
        Option(
            help="Chat template to use instead of the model's own: a Jinja file, or the name of a "
            "well-known one, such as chatml, llama3, mistral-v3, gemma, phi3 or zephyr",
            parser=opt.name_or_file((".jinja", ".j2", ".txt")),
            group=CHAT,
            metavar="TEMPLATE",
            automatic="the model's own",
        ),
    ] = None
    tools: Annotated[
        str,
        Option(
            help="How functions are shown to a model: by its chat template (native; a model whose "
            "template shows none refuses them), in its messages (generic), or natively where the "
            "template can (auto)",
            parser=opt.one_of("auto", "native", "generic"),
            group=CHAT,
            metavar="HOW",
        ),
    ] = "auto"
