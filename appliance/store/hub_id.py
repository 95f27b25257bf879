"""How a model on a hub is named: `org/repo[@REVISION][:CHOICE]`.

Knows no hub and no folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# What huggingface_hub.utils.validate_repo_id allows, with an owner; a CHOICE is the end
# of a file's name.
_PATTERN = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95})"
    r"(?:@(?P<revision>\w[\w.-]{0,95}))?(?::(?P<choice>\w[\w.-]{0,95}))?",
    re.A,
)


@dataclass(frozen=True)
class HubId:
    """A repository, and which of its files."""

    repo: str
    # a quantization such as Q4_K_M, or more of a name's end; None: the plan chooses
    choice: str | None = None
    revision: str | None = None  # a commit, tag or branch; None: the newest commit

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        choice = "" if self.choice is None else f":{self.choice}"
        return f"{self.repo}{revision}{choice}"


# As it is written in a browser, and in the cache of Hugging Face's own tools.
_ADDRESS = re.compile(r"(?:https?://)?(?:huggingface\.co|hf\.co)/(.+?)(?:/tree/main)?/?")
_CACHE_FOLDER = re.compile(r"models--([^/]+?)--([^/]+)")


def parse_hub_id(text: str) -> HubId | None:
    """None for what cannot be the name of a repository, as a path to a .gguf file.

    An address in a browser and a folder of the Hugging Face cache are names too.
    """
    address, folder = _ADDRESS.fullmatch(text), _CACHE_FOLDER.fullmatch(text)
    if address is not None:
        text = address[1]
    elif folder is not None:
        text = f"{folder[1]}/{folder[2]}"
    match = _PATTERN.fullmatch(text)
    if (
        match is None
        or match["repo"].endswith(".gguf")
        or ".." in match["repo"]
        or "--" in match["repo"]
    ):
        return None
    return HubId(match["repo"], match["choice"], match["revision"])


def matching(choice: str, quantizations: Mapping[str, str | None]) -> list[str]:
    """The names of GGUF files that `choice` means: those that end with it, else those
    of that quantization.

    `quantizations` has what is known of each file's type, by name.
    """
    named = [name for name in quantizations if _ends_with(name, choice)]
    return named or [
        name for name, quantization in quantizations.items() if quantization == choice.upper()
    ]


def _ends_with(name: str, choice: str) -> bool:
    """Whether `choice` is the last part of the name, the parts being set off by
    anything but letters and digits.
    """
    stem, end = name.lower().removesuffix(".gguf"), choice.lower()
    return stem == end or (stem.endswith(end) and not stem[-len(end) - 1].isalnum())
