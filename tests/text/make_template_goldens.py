"""Renders every template with transformers and keeps what came out, as hashes.

Run: pip install "transformers==5.23.0"; build llama_jinja.cpp, which says how; then
python -m tests.text.make_template_goldens FOLDER_OF_TEMPLATES LLAMA_JINJA

Kept are the first 16 hexadecimal digits of the SHA-256 of each rendering. What breaks in
transformers, not because the template refuses it, is llama.cpp's rendering; `broken` is
what breaks in both or cannot be compared, and `error` what the template refuses.
`--show TEMPLATE CONVERSATION` behind these prints one rendering instead.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jinja2
import transformers.utils.chat_template_utils as theirs

from tests.text.conversations import CONVERSATIONS, NOW, SPECIAL, Conversation

OWN = Path(__file__).with_name("templates")
GOLDENS = Path(__file__).with_name("template_goldens.json")


class _FrozenTime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override] # noqa: ARG003 - as its base
        return NOW


class LlamaJinja:
    """llama.cpp's engine, in a process of its own."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program.resolve(), str(int(NOW.timestamp()))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def rendered(self, path: Path, conversation: Conversation) -> str | None:
        """None if it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        values = {
            # as llama-server does before it renders
            "messages": [
                {**one, "content": "" if one["content"] is None else one["content"]}
                for one in conversation.messages
            ],
            "add_generation_prompt": not conversation.continue_final_message,
            **({"tools": conversation.tools} if conversation.tools else {}),
            **SPECIAL,
            **conversation.arguments,
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            self._process.stdin.write(f"{path.resolve()}\t{file.name}\n".encode())
            self._process.stdin.flush()
            how, size = self._process.stdout.readline().split()
            text = self._process.stdout.read(int(size)).decode()
        return text if how == b"OK" else None


def rendered(source: str, conversation: Conversation) -> str:
    [text], _ = theirs.render_jinja_template(
        conversations=[copy.deepcopy(conversation.messages)],
        tools=conversation.tools,
        chat_template=source,
        add_generation_prompt=not conversation.continue_final_message,
        continue_final_message=conversation.continue_final_message,
        **{**SPECIAL, **conversation.arguments},
    )
    return str(text)


def golden(path: Path, conversation: Conversation, llama: LlamaJinja) -> str:
    try:
        text: str | None = rendered(path.read_text(encoding="utf-8"), conversation)
    except Exception as error:  # noqa: BLE001 - whatever a template's own expressions raise
        if type(error) is jinja2.TemplateError:
            return "error"
        # llama.cpp writes a dict where a text is wanted, which is no JSON
        is_comparable = not conversation.continue_final_message and '"dict"' not in str(error)
        text = llama.rendered(path, conversation) if is_comparable else None
    return "broken" if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]


def main(argv: list[str]) -> None:
    theirs.datetime = _FrozenTime
    folders = [OWN, Path(argv[0])]
    if argv[2:3] == ["--show"]:
        path = next(folder / argv[3] for folder in folders if (folder / argv[3]).exists())
        sys.stdout.write(rendered(path.read_text(encoding="utf-8"), CONVERSATIONS[argv[4]]))
        return
    llama = LlamaJinja(Path(argv[1]))
    goldens = {
        path.name: {
            name: golden(path, conversation, llama) for name, conversation in CONVERSATIONS.items()
        }
        for folder in folders
        for path in sorted(folder.glob("*.jinja"))
    }
    GOLDENS.write_text(json.dumps(goldens, indent=1) + "\n", encoding="utf-8")
    kept = [one for by_name in goldens.values() for one in by_name.values()]
    print(
        f"{len(goldens)} templates, {len(CONVERSATIONS)} conversations, "
        f"{kept.count('error')} errors, {kept.count('broken')} broken in both"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
