"""Runs a command of `appliance-convert`: exit codes, signals, errors as text or JSON.

Knows no command.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from convert.console import print_json
from convert.errors import ConvertError

EXIT_CODES = (
    "Exit codes: 0 success, 1 internal error, 2 bad input, 3 connection to the hub lost, 128 + N "
    "when signal N ended the run."
)
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _EndingSignal(BaseException):
    """A signal asks us to end.

    Not an `Exception`, so that nothing on the way takes it for a failure of its own.
    """

    def __init__(self, number: int) -> None:
        self.number = number


def execute(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None], argv: list[str]
) -> int:
    """Runs one command.

    Returns 0 when done, 2 for bad input (arguments included), 1 where the fault is
    ours.

    A signal that ends it gives 128 and its number, as a shell would.
    """
    try:
        args = parser.parse_args(argv)
    except SystemExit as exit_:  # argparse has written its message or the help
        return exit_.code if isinstance(exit_.code, int) else 2
    try:
        with _ending_on_signals():
            run(args)
    except ConvertError as error:
        _report_error(error, args.json)
        return error.exit_code
    except _EndingSignal as ended:
        name = signal.Signals(ended.number).name
        sys.stderr.write(
            f"{parser.prog}: stopped by {name}; nothing incomplete has its final name\n"
        )
        return 128 + ended.number
    except BrokenPipeError:
        # the reader of our lines has gone; what is still buffered must not be written
        # to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def _report_error(error: ConvertError, as_json: bool) -> None:
    sys.stderr.write(f"appliance-convert: {error}\n")
    if as_json:
        print_json(event="error", kind=error.kind, message=str(error))


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Makes signals that end a process unwind the work, so that nothing half-written
    stays behind.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise _EndingSignal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # not under nohup
    heeded = [
        number for number in _ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
