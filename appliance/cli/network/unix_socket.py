"""A Unix socket to listen on: made with its mode, taken over from servers that died,
removed at the end.

Knows no server.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.errors import BadSettings

_BACKLOG = 1024
_MAX_PATH_BYTES = 103  # with the zero behind it, on macOS; Linux takes 4 more


def bound(path: Path, mode: int) -> socket.socket:
    """Listens at `path`. What a server left there is replaced if nobody listens on it.

    Raises `BadSettings` where somebody does, where there is something else, or where no
    socket can be made.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise BadSettings(
            f"--host unix:{path} is longer than a socket's path can be ({_MAX_PATH_BYTES} bytes)."
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(path.parent):
            _remove_stale(path)
            sock.bind(str(path))
            # nobody is let in before `listen`: the mode stands by then
            path.chmod(mode)
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise BadSettings(f"Cannot listen on unix:{path}: {error.strerror}.") from error
    except BadSettings:
        sock.close()
        raise
    return sock


def removal(path: Path) -> Callable[[], None]:
    """Removes the socket that is at `path` now; not one that another server puts there
    later.
    """
    made = path.stat()

    def remove() -> None:
        with contextlib.suppress(FileNotFoundError), _alone_in(path.parent):
            if os.path.samestat(path.lstat(), made):
                path.unlink()

    return remove


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No two servers take the same socket for left over: the lock is the folder's own, and
    leaves no file behind.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_stale(path: Path) -> None:
    """Raises `BadSettings` if it is none, `OSError` if it cannot be removed."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise BadSettings(f"Cannot listen on unix:{path}: there is a file that is no socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # where many wait to be let in, somebody listens too
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise BadSettings(
        f"Cannot listen on unix:{path}: a server listens there. Stop it, or choose another --host."
    )
