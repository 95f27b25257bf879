"""Renders our well-known templates and llama.cpp's of the same names, and prints what differs.

Usage: python -m tests.text.chats.well_known_renderings; native code, so in a process of
its own.
"""

from __future__ import annotations

import ctypes
import datetime

import llama_cpp

from appliance.store.chat_templates.reading import read_chat_template, template_names
from appliance.text.chat_template import ChatTemplate

# Ours alone; and Falcon 3's, whose own template ends answers with its end token.
NOT_COMPARED = ("alpaca", "falcon3")
END_TOKENS = {"zephyr": "<|endoftext|>"}
CONVERSATIONS = [
    [("user", "Hi")],
    [("user", "Hi"), ("assistant", "Yes."), ("user", "So?")],
    [("system", "Be."), ("user", " Hi "), ("assistant", " Yes. "), ("user", "So?")],
]


def theirs(name: str, conversation: list[tuple[str, str]]) -> str:
    messages = (llama_cpp.llama_chat_message * len(conversation))(
        *(
            llama_cpp.llama_chat_message(role=role.encode(), content=content.encode())
            for role, content in conversation
        )
    )
    buffer = ctypes.create_string_buffer(4096)
    size = llama_cpp.llama_chat_apply_template(
        name.encode(), messages, len(conversation), True, buffer, len(buffer)
    )
    return buffer.raw[: max(size, 0)].decode()


def main() -> None:
    names = [name for name in template_names() if name not in NOT_COMPARED]
    for name in names:
        template = ChatTemplate(
            read_chat_template(name),
            special={"bos_token": "<s>", "eos_token": END_TOKENS.get(name, "</s>")},
            now=datetime.datetime.now,
        )
        for conversation in CONVERSATIONS:
            ours = template.render(
                [{"role": role, "content": content} for role, content in conversation]
            )
            if ours != theirs(name, conversation):
                print(f"{name}: {ours!r} is not {theirs(name, conversation)!r}")
    print(f"{len(names)} compared")


if __name__ == "__main__":
    main()
