"""Small real nodes: `appliance serve` once for each share of this machine.

Knows no requests. What a node measured of itself it writes when it stops (`step-times`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from appliance.errors import BadSettings
from appliance.fleet.measured import MeasuredNode, find_node
from bench.fleet.shares import Share
from bench.load.servers import Command, Server

# Nothing that a simulation knows nothing of: no drafts, no disk, no answers one by one.
_PLAIN = (
    "--threads 1 --batch-threads 1 --no-tune --prompt-lookup off --repeatable off "
    "--prefix-disk-bytes 0 --max-waiting 1000000"
)


def command(model: Path, share: Share, folder: Path, flags: Sequence[str]) -> Command:
    """`model` with `flags` of `appliance serve`, in its own home in `folder`."""
    serve = [sys.executable, "-m", "appliance", "serve", "{model}", "--port", "{port}"]
    state = ["--state-dir", "{dir}/state"]
    words = ["env", "HOME={dir}", *share.words, *serve, *state, *shlex.split(_PLAIN), *flags]
    return Command(folder.name, " ".join(map(shlex.quote, words)), model, folder)


@contextmanager
def fleet(
    model: Path, shares: Sequence[Share], folder: Path, flags: Sequence[str]
) -> Iterator[list[Server]]:
    """A node for each share; each one's files are in a folder of its own, and kept."""
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    for times in folder.glob("node-*/state/step-times"):  # of another load, or another hour
        shutil.rmtree(times)
    with ExitStack() as running, ThreadPoolExecutor(len(shares)) as pool:
        starting = []
        for number, share in enumerate(shares):
            share.bind()
            line = command(model, share, folder / f"node-{number}", flags)
            starting.append(pool.submit(Server, line))
            running.callback(_stop, starting[-1])
        yield [each.result() for each in starting]


def _stop(starting: Future[Server]) -> None:
    """Where it has started."""
    if starting.exception() is None:
        starting.result().stop()


def measured(model: Path, num_nodes: int, folder: Path) -> list[MeasuredNode]:
    """What each node has written down so far. Raises `BadSettings` where one has nothing."""
    found = []
    for number in range(num_nodes):
        times = folder / f"node-{number}" / "state" / "step-times"
        if not times.is_dir():
            raise BadSettings(f"{times} is not there: its node did not start, or did not stop.")
        found.append(find_node(times, model.stem))
    return found
