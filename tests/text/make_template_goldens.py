"""Renders every template with transformers and keeps what came out, as hashes.

Run: pip install "transformers==5.23.0"; python -m tests.text.make_template_goldens
FOLDER_OF_TEMPLATES

Kept are the first 16 hexadecimal digits of the SHA-256 of each rendering, or `error`.
`--show TEMPLATE CONVERSATION` behind the folder prints one rendering instead.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from pathlib import Path

import transformers.utils.chat_template_utils as theirs

from tests.text.conversations import CONVERSATIONS, NOW, SPECIAL, Conversation

OWN = Path(__file__).with_name("templates")
GOLDENS = Path(__file__).with_name("template_goldens.json")


class _FrozenTime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override] # noqa: ARG003 - as its base
        return NOW


def rendered(source: str, conversation: Conversation) -> str:
    [text], _ = theirs.render_jinja_template(
        conversations=[conversation.messages],
        tools=conversation.tools,
        chat_template=source,
        add_generation_prompt=not conversation.continue_final_message,
        continue_final_message=conversation.continue_final_message,
        **{**SPECIAL, **conversation.arguments},
    )
    return str(text)


def digest(source: str, conversation: Conversation) -> str:
    try:
        text = rendered(source, conversation)
    except Exception:  # noqa: BLE001 - whatever a template's own expressions raise
        return "error"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main(argv: list[str]) -> None:
    theirs.datetime = _FrozenTime
    folders = [OWN, Path(argv[0])]
    if argv[1:2] == ["--show"]:
        path = next(folder / argv[2] for folder in folders if (folder / argv[2]).exists())
        sys.stdout.write(rendered(path.read_text(encoding="utf-8"), CONVERSATIONS[argv[3]]))
        return
    goldens = {
        path.name: {
            name: digest(path.read_text(encoding="utf-8"), conversation)
            for name, conversation in CONVERSATIONS.items()
        }
        for folder in folders
        for path in sorted(folder.glob("*.jinja"))
    }
    GOLDENS.write_text(json.dumps(goldens, indent=1) + "\n", encoding="utf-8")
    num_errors = sum(one == "error" for by_name in goldens.values() for one in by_name.values())
    print(f"{len(goldens)} templates, {len(CONVERSATIONS)} conversations, {num_errors} errors")


if __name__ == "__main__":
    main(sys.argv[1:])
