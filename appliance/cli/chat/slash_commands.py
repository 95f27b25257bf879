"""What a line that begins with `/` does to a conversation.

Knows no screen: what it finds it prints.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.cli.chat.conversation import Conversation, read_conversation, write_conversation
from appliance.cli.chat.pictures import refuse_picture
from appliance.cli.running_server import RunningServer
from appliance.errors import BadSettings

HELP = '''\
/model [NAME]           shows the models, or goes on with another one
/system [TEXT]          shows or replaces what the model is told beforehand;
                        /system - is none
/params [NAME=VALUE…]   shows or sets temperature, top_p, max_tokens, …;
                        NAME= is the default again
/retry                  has the last question answered again
/save FILE, /load FILE  keep the conversation, or go on with one
/image FILE             not yet: no model here sees pictures
/clear                  forgets what was said
/exit                   ends, as Ctrl-D does
Ctrl-C stops an answer. A line that ends with \\ goes on in the next one;
""" begins and ends a text of several lines.'''


class Ended(Exception):
    """/exit."""


class SlashCommands:
    def __init__(self, conversation: Conversation, server: RunningServer) -> None:
        self._conversation = conversation
        self._server = server
        self._table: dict[str, Callable[[str], str | None]] = {
            "model": self._model,
            "system": self._system,
            "params": self._params,
            "retry": self._retry,
            "save": self._save,
            "load": self._load,
            "image": refuse_picture,
            "clear": self._clear,
            "help": self._help,
            "exit": self._exit,
        }

    def run(self, line: str) -> str | None:
        """Returns a question to be asked, if that is what follows.

        Raises `ApplianceError` for what is not known or does not work, and `Ended`.
        """
        name, _, rest = line[1:].partition(" ")
        command = self._table.get(name)
        if command is None:
            names = ", ".join(f"/{known}" for known in self._table)
            raise BadSettings(f"There is no /{name}. There are {names}.")
        return command(rest.strip())

    def _model(self, name: str) -> None:
        if not name:
            for known in self._server.models():
                print(f"{'*' if known == self._conversation.model else ' '} {known}")
        elif self._server.has(name):
            self._conversation.model = name
        else:
            raise BadSettings(f"The server has no model {name!r}. /model shows those it has.")

    def _system(self, text: str) -> None:
        if not text:
            print(self._conversation.system or "The model is told nothing beforehand.")
        else:
            self._conversation.system = None if text == "-" else text

    def _params(self, text: str) -> None:
        for word in text.split():
            self._conversation.set_param(word)
        if not text:
            shown = (f"{name}={value}" for name, value in self._conversation.params.items())
            print(" ".join(shown) or "All are the server's defaults.")

    def _retry(self, _text: str) -> str:
        question = self._conversation.take_back()
        if question is None:
            raise BadSettings("There is no question yet.")
        return question

    def _save(self, name: str) -> None:
        write_conversation(_path(name, "save"), self._conversation)

    def _load(self, name: str) -> None:
        loaded = read_conversation(_path(name, "load"))
        self._conversation.system = loaded.system
        self._conversation.params = loaded.params
        self._conversation.messages = loaded.messages
        if loaded.model is not None and self._server.has(loaded.model):
            self._conversation.model = loaded.model
        print(f"{len(loaded.messages)} messages; {self._conversation.model} goes on.")

    def _clear(self, _text: str) -> None:
        self._conversation.messages = []

    def _help(self, _text: str) -> None:
        print(HELP)

    def _exit(self, _text: str) -> None:
        raise Ended


def _path(name: str, command: str) -> Path:
    if not name:
        raise BadSettings(f"Which file? /{command} FILE.")
    return Path(name).expanduser()
