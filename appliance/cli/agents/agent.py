"""What an agent is to `appliance launch`: what it needs, and how it is set up for a server.

Knows no agent by name and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

NO_KEY = "none"  # what clients send that insist on a key, where none is needed


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running server and one of its models, as an agent is told of them."""

    url: str  # without `/v1`
    is_local: bool  # only this machine reaches it
    model: str
    ctx: int  # tokens; the longest request
    tool_use: str  # native, generic or none
    key: str | None = field(repr=False)  # that the server accepts, if it wants one
    key_file: Path | None  # in which it stands
    home: Path  # of the user
    environ: Mapping[str, str]  # in which agents look for their folders
    own_folder: Path  # for files of ours that agents read

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def config_home(self) -> Path:
        """$XDG_CONFIG_HOME."""
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")

    def answer_tokens(self) -> int:
        """How long an answer may be, so that prompts keep the larger part of the context."""
        return min(self.ctx // 4, 8192)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an agent asks of a model."""

    least_ctx: int  # tokens; with less, its first request does not fit
    good_ctx: int  # tokens; with less, it forgets soon what it has read
    tools: bool  # whether it does nothing without calling functions


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """What is to be added to a file of the user's.

    `merged` makes the new text of the old one, "" where there is no file, and raises
    `CannotMerge`.
    """

    path: Path
    addition: str  # to print, and to add by hand
    merged: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How an agent is told of a server."""

    environment: Mapping[str, str] = field(default_factory=dict)
    key_variables: tuple[str, ...] = ()  # those that hold the key, which no file does
    unset: tuple[str, ...] = ()  # variables that would win over these
    arguments: tuple[str, ...] = ()  # to start it once
    own_files: Mapping[Path, str] = field(default_factory=dict)  # that the arguments name
    changes: tuple[FileChange, ...] = ()  # to have it so for good
    by_hand: str = ""  # where there is nothing to start or to write
    once_written: str = ""  # what to do after the changes
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A program that works with a model. `command` is None where it is none that is
    started from here.
    """

    name: str
    title: str
    summary: str
    needs: Needs
    command: str | None
    installing: str  # how one gets it
    set_up: Callable[[Target], Setup]
