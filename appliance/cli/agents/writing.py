"""Changes a file of the user's: shown first, asked for where there is one, kept beside it.

Knows no agent and no format.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from appliance.cli.agents.agent import FileChange
from appliance.cli.agents.merging import CannotMerge
from appliance.errors import ApplianceError

_KEPT = ".before-appliance"  # appended to the name of the copy of what was there
_MODE = 0o600  # of a file that is new


def change_file(
    change: FileChange, *, allows: Callable[[str], bool], say: Callable[[str], None]
) -> bool:
    """Whether the file now says what it should; False where `allows` said no to replacing it.

    Raises `ApplianceError` where it cannot be merged, read or written.
    """
    # where a link leads: whoever keeps these files elsewhere goes on doing so
    path = change.path.resolve()
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else None
        new = change.merged(old or "")
        if new == old:
            say(f"{change.path} already says so.")
            return True
        say(_difference(old or "", new, change.path))
        if old is not None and not allows(f"Change {change.path}?"):
            say(f"{change.path} stays as it is.")
            return False
        if old is not None:
            kept = _free_name(path)
            _write(kept, old, path.stat().st_mode)
            say(f"What was there is kept in {kept}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, new, _MODE if old is None else path.stat().st_mode)
    except CannotMerge as error:
        raise ApplianceError(
            f"{change.path} cannot be changed: {error.message}. Nothing was written. Add this "
            f"to it yourself:\n\n{change.addition}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ApplianceError(f"{change.path} cannot be changed: {error}.") from error
    say(f"Written: {change.path}")
    return True


def write_own(path: Path, text: str) -> None:
    """A file of ours, which nobody else changes. Raises `ApplianceError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text, _MODE)
    except OSError as error:
        raise ApplianceError(
            f"{path} cannot be written: {error}. Choose another --state-dir."
        ) from error


def _difference(old: str, new: str, path: Path) -> str:
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), str(path), str(path), lineterm=""
    )
    return "\n".join(lines)


def _free_name(path: Path) -> Path:
    """Older copies stay: the oldest one is what was there before us."""
    name = path.with_name(path.name + _KEPT)
    number = 2
    while name.exists():
        name = path.with_name(f"{path.name}{_KEPT}.{number}")
        number += 1
    return name


def _write(path: Path, text: str, mode: int) -> None:
    """All of it or nothing: a program that reads the file meanwhile finds it whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
