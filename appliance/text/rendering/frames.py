"""What crosses between a renderer and whoever asks it: sizes, limits and outcomes.

Knows no Jinja.

To a renderer: `REQUEST`, then so many bytes of JSON; first `source` and `special`, then
what is to be rendered. Back: `REPLY`, then so many bytes of UTF-8.
"""

from __future__ import annotations

import enum
import struct
from typing import IO

REQUEST = struct.Struct(">Qd")  # bytes that follow, and the processor time allowed in seconds
REPLY = struct.Struct(">BQ")  # an `Outcome`, and bytes that follow

MAX_MEMORY_BYTES = 512 << 20  # of address space, Python and Jinja included
MAX_RENDERED_CHARS = 16 << 20  # far above any context


class Outcome(enum.IntEnum):
    """What became of a template or a rendering."""

    DONE = 0  # follows: the text; after compiling, the variables as a JSON list
    REFUSED = 1  # follows: why, as a sentence
    OUT_OF_TIME = 2
    OUT_OF_MEMORY = 3
    TOO_LONG = 4
    CRASHED = 5  # follows: how it ended


class RendererGone(Exception):
    """The other end closed the pipe."""


def read_exactly(pipe: IO[bytes], num_bytes: int) -> bytes:
    """Raises `RendererGone` at the end of the pipe."""
    data = pipe.read(num_bytes)
    if len(data) < num_bytes:
        raise RendererGone
    return data
