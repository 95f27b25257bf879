"""`appliance chat`: a conversation in the terminal.

Knows no server's format and no Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from appliance.cli.chat.answering import Answer, pieces
from appliance.cli.chat.conversation import Conversation, read_conversation
from appliance.cli.chat.finding import found_server
from appliance.cli.chat.reading import history_in, read_text, take_any_bytes
from appliance.cli.chat.showing import Screen, remark_on, screen_for
from appliance.cli.chat.slash_commands import Ended, SlashCommands
from appliance.cli.running_server import RunningServer
from appliance.errors import ApplianceError
from appliance.settings import ServeSettings

_HISTORY = "chat-history"  # below --state-dir


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Raises `ApplianceError` if no server answers and none can be started; what goes
    wrong later is said, and the conversation goes on.
    """
    conversation = read_conversation(Path(args.load)) if args.load else Conversation()
    conversation.system = args.system or conversation.system
    for name in ("max_tokens", "temperature"):
        if (value := getattr(args, name)) is not None:
            conversation.params[name] = value
    with found_server(settings, args) as found:
        conversation.model = found.model
        screen = screen_for(sys.stdout)
        take_any_bytes()
        screen.tell(f"{found.model} on {found.where}. /help: what can be typed.")
        chat = Chat(found.server, conversation, screen)
        with history_in(settings.state_dir / _HISTORY):
            return chat.talk()


class Chat:
    """The loop of a conversation."""

    def __init__(self, server: RunningServer, conversation: Conversation, screen: Screen) -> None:
        self._server = server
        self._conversation = conversation
        self._screen = screen
        self._commands = SlashCommands(conversation, server)
        self._has_failed = False

    def talk(self) -> int:
        """Until the end of the input, or /exit. Without a terminal, a failure is the exit
        code.
        """
        with contextlib.suppress(Ended):
            while (text := self._read()) is not None:
                self._take(text)
        if sys.stdin.isatty():
            return 0
        return 1 if self._has_failed else 0

    def _read(self) -> str | None:
        try:
            text = read_text()
        except KeyboardInterrupt:
            print()
            return ""
        if text is None and sys.stdin.isatty():
            print()  # behind the prompt
        return text

    def _take(self, text: str) -> None:
        try:
            if text.startswith("/"):
                text = self._commands.run(text) or ""
            if text.strip():
                self._conversation.ask(text)
                self._answer()
        except ApplianceError as error:
            self._has_failed = True
            print(f"error: {error.message}", file=sys.stderr)

    def _answer(self) -> None:
        """Ctrl-C ends the answer, of which is kept what there is."""
        answer = Answer()
        reading = pieces(self._server, self._conversation.request(), answer)
        try:
            with self._screen as screen, contextlib.closing(reading):
                for piece in reading:
                    screen.write(piece)
        except KeyboardInterrupt:
            pass  # `remark_on` says so
        finally:
            self._conversation.answered(answer.text)
        self._screen.tell(remark_on(answer))
