"""Run as a child: the command `appliance`, ended in good order when its parent is gone,
however that ended.

Usage: python -m appliance.cli.chat.owned PARENT_PID ARGUMENT...
"""

from __future__ import annotations

import os
import signal
import sys

from appliance.cli import main
from appliance.lifeline import die_with_parent


def run(argv: list[str]) -> int:
    parent, *arguments = argv
    die_with_parent(signal.SIGTERM)
    if os.getppid() != int(parent):  # it had ended by then
        return 0
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
