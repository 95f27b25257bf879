"""Answers as they come: as Markdown in a terminal, as plain text elsewhere.

Knows no server.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from appliance.cli.chat.answering import Answer, Piece
from appliance.cli.chat.blocks import end_of, finished_length, printable

_FRAMES_PER_S = 8
_DIM = "dim"


class Screen(Protocol):
    """Enter it for each answer."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def write(self, piece: Piece) -> None: ...

    def tell(self, text: str) -> None:
        """A remark that is no part of the answer."""


def screen_for(out: TextIO) -> Screen:
    console = Console(file=out, highlight=False)
    return (
        MarkdownScreen(console)
        if console.is_terminal and not console.is_dumb_terminal
        else (PlainScreen(out))
    )


class PlainScreen(Screen):
    """The answer, and nothing but the answer, as it was sent."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = "\n"

    def __enter__(self) -> Screen:
        self._last = "\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self._last != "\n":
            self._out.write("\n")
        self._out.flush()

    def write(self, piece: Piece) -> None:
        if not piece.is_reasoning:
            self._out.write(piece.text)
            self._out.flush()
            self._last = piece.text[-1]

    def tell(self, text: str) -> None:
        pass


class MarkdownScreen(Screen):
    """Whole blocks are printed and stay; the last one, which still grows, is drawn anew
    until it is whole too. So nothing above the end of the screen is ever drawn again.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._growing = ""
        self._is_reasoning = False
        self._has_blocks = False

    def __enter__(self) -> Screen:
        self._growing, self._is_reasoning, self._has_blocks = "", False, False
        self._live = Live(
            Text(""), console=self._console, refresh_per_second=_FRAMES_PER_S, transient=True
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._live is not None
        self._live.update(Text(""))
        self._print(self._growing)
        self._live.stop()
        self._live = None

    def write(self, piece: Piece) -> None:
        assert self._live is not None
        if piece.is_reasoning is not self._is_reasoning:
            self._print(self._growing)
            self._growing, self._is_reasoning = "", piece.is_reasoning
        self._growing += printable(piece.text)
        if at := finished_length(self._growing):
            self._print(self._growing[:at])
            self._growing = self._growing[at:]
        height = self._console.height - 2
        self._live.update(_Ending(self._rendered(end_of(self._growing, height)), height))

    def tell(self, text: str) -> None:
        self._console.print(Text(text, style=_DIM))

    def _print(self, block: str) -> None:
        """Above what still grows, a line apart from what is there."""
        if not block.strip():
            return
        if self._has_blocks:
            self._console.print()
        self._console.print(self._rendered(block))
        self._has_blocks = True

    def _rendered(self, block: str) -> RenderableType:
        if self._is_reasoning:
            return Text(block.strip("\n"), style=_DIM)
        # a link shows where it leads
        return Markdown(block, hyperlinks=False)


class _Ending:
    """The last lines of something that may be longer than the screen."""

    def __init__(self, whole: RenderableType, num_lines: int) -> None:
        self._whole = whole
        self._num_lines = num_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._whole, options.update(height=None), pad=False)
        for line in lines[-self._num_lines :]:
            yield from line
            yield Segment.line()


def remark_on(answer: Answer) -> str:
    """What an answer took, in a line."""
    parts = [] if answer.num_tokens is None else [f"{answer.num_tokens} tokens"]
    if answer.tokens_per_s is not None:
        parts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    if answer.first_token_s is not None:
        parts.append(f"first token after {answer.first_token_s:.2f} s")
    if answer.num_prompt_tokens is not None:
        cached, prompt = answer.num_cached_tokens, answer.num_prompt_tokens
        parts.append(f"{cached} of {prompt} prompt tokens cached")
    if answer.finish_reason is None:
        parts.append("stopped")
    elif answer.finish_reason == "length":
        parts.append("cut off: no tokens left")
    return ", ".join(parts)
