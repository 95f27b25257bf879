"""A process that has imported what a worker needs, and forks one for every relay.

Knows no model and no case. What it starts is the appliance's own code, in a process of its
own as in production, but for what its imports cost.

Usage: python -m tests.mutants.nursery SOCKET; it ends with its standard input.
"""

from __future__ import annotations

import array
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import NoReturn

MODULES = ("appliance.worker.child.__main__", "appliance.llama.dry_load")
_MAX_FILES = 4


def main(argv: list[str]) -> int:
    modules = {name: importlib.import_module(name) for name in MODULES}
    # 4 s of measuring how long steps take are nothing that a file could spoil
    generating = importlib.import_module("appliance.worker.child.generating")
    generating._MAX_CURVE_S = 0.05  # type: ignore[attr-defined] # it is private
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # handlers are not waited for
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(argv[0])
        listener.listen()
        print("ready", flush=True)  # what the starter waits for
        while True:
            readable, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in readable:
                return 0
            relay, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _handle(relay, modules)
            relay.close()


def _handle(relay: socket.socket, modules: dict[str, object]) -> NoReturn:
    """Starts one child, waits for its end or the relay's, and tells the relay."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, rights, _, _ = relay.recvmsg(1 << 16, socket.CMSG_SPACE(4 * _MAX_FILES))
    files = array.array("i")
    for _level, _kind, descriptors in rights:
        files.frombytes(descriptors)
    name, *arguments = json.loads(data)
    pid = os.fork()
    if pid == 0:
        relay.close()
        _become(modules[name], list(arguments), list(files))
    for file in files:
        os.close(file)
    ended = os.pidfd_open(pid)
    readable, _, _ = select.select([ended, relay], [], [])
    if ended not in readable:
        os.kill(pid, signal.SIGKILL)  # as the relay was
    _, status, usage = os.wait4(pid, 0)
    answer = {"status": os.waitstatus_to_exitcode(status), "peak_bytes": usage.ru_maxrss << 10}
    try:
        relay.send(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _become(module: object, arguments: list[str], files: list[int]) -> NoReturn:
    os.setsid()
    for target, file in enumerate(files[:3]):
        os.dup2(file, target)
        os.close(file)
    if files[3:]:
        arguments.append(str(files[3]))
    exit_now = importlib.import_module("appliance.worker.child.vital").exit_now
    try:
        exit_now(module.main(arguments))  # type: ignore[attr-defined] # each has one
    except BaseException:  # noqa: BLE001 - as Python's own main does: the trace, and status 1
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type] # there is one
        exit_now(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
