"""Records what a terminal shows of a first session, as a picture for the README.

`python -m tests.cli.recording` types into a shell, with real commands and a real model, and
writes docs/pictures/terminal.svg, or the file named. What is typed is here; what is shown is
what the commands say on this machine.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pyte
from pyte.screens import Char
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.cli.chat.terminal import CTRL_D, Terminal
from tests.serve.server import environment

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "terminal.svg"
LINES, COLUMNS = 60, 106
PROMPT, ASKS = "$ ", "> "
SESSION = (
    ("appliance list --available --ram 4GiB | head -6", PROMPT),
    ("appliance chat --temperature 0", ASKS),
    ("What is the capital of Japan?", ASKS),
    ("And of France?", ASKS),
    (CTRL_D, PROMPT),
)
# What the picture would ask the network for; a viewer has fonts of its own.
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


async def record(home: Path) -> str:
    """All that the terminal was sent."""
    around = environment(home)
    around["PATH"] = f"{Path(sys.executable).parent}:{around['PATH']}"
    bash = shutil.which("bash") or "/bin/bash"
    shell = Terminal(
        ("--norc", "--noprofile", "-i"),
        {**around, "PS1": PROMPT},
        program=(bash,),
        size=(LINES, COLUMNS),
    )
    try:
        await shell.sees(PROMPT)
        for typed, awaited in SESSION:
            shell.type(typed if typed == CTRL_D else f"{typed}\r")
            await shell.sees(typed.strip(CTRL_D)[-12:])
            await shell.sees(f"\n{awaited}")
        return shell.raw
    finally:
        shell.end()


def picture(raw: str) -> str:
    """The screen at the end, as SVG."""
    screen = pyte.Screen(COLUMNS, LINES)
    pyte.Stream(screen).feed(raw)
    lines = [_line(screen, at) for at in range(LINES)]
    while lines and lines[-1].plain.strip() in ("", PROMPT.strip()):
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    for line in lines:
        console.print(line)
    return _FONTS.sub("", console.export_svg(title="appliance"))


def _line(screen: pyte.Screen, at: int) -> Text:
    cells = [screen.buffer[at][column] for column in range(COLUMNS)]
    line = Text()
    for style, alike in itertools.groupby(cells, _style):
        line.append("".join(cell.data for cell in alike), style)
    line.rstrip()
    return line


def _style(cell: Char) -> Style:
    return Style(
        color=_colour(cell.fg),
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        reverse=cell.reverse,
    )


def _colour(name: str) -> str:
    """As rich calls it: pyte names colours of 256 by their hexadecimal value."""
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return {"brown": "yellow"}.get(name, name).replace("bright", "bright_")


def main(words: list[str]) -> int:
    target = Path(words[0]) if words else PICTURE
    with tempfile.TemporaryDirectory() as home:
        raw = asyncio.run(record(Path(home)))
    target.write_text(picture(raw), encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
