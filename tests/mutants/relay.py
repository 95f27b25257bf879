"""Stands in for a child process of the appliance that takes long to start: has the nursery
fork one that is warm, lends it its own files, and ends as it ended.

Knows nothing of what runs. Run as a file and without site packages: it is started for every
case, and has to be up in milliseconds.

Usage: python -I -S relay.py SOCKET LOG ERRORS MODULE [ARGUMENT...]; of the arguments, the last one
names a file descriptor where the module is a worker. A line of JSON is appended to
LOG, and what a worker writes to ERRORS.
"""

from __future__ import annotations

import array
import json
import os
import resource
import signal
import socket
import sys


def main(argv: list[str]) -> int:
    path, log, errors, module, *arguments = argv
    files = [0, 1, 2]
    if module == "appliance.worker.child.__main__":
        files[2] = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        files.append(int(arguments.pop()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nursery:
        nursery.connect(path)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files).tobytes())]
        nursery.sendmsg([json.dumps([module, *arguments]).encode()], rights)
        for file in files[3:]:
            os.close(file)  # it is the child's: the parent is to see its end
        answer = nursery.recv(1 << 16)
    if not answer:
        return 1
    end = json.loads(answer)
    line = json.dumps({"module": module, **end}) + "\n"
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())
    status = int(end["status"])
    if status >= 0:
        return status
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
