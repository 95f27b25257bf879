"""Is this commit as fast as the last release?

Serves the same models with both, on this machine and with this environment's llama.cpp,
and measures tokens/s of one stream and of eight by turns. Ends with 1 where a median is
below 0.97 of the release's. Measure on an idle machine. The short form takes about a
minute; --full, for releases, a quarter of an hour.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from appliance.cli.bench.stream import RequestFailed
from appliance.store.catalog import load_catalog
from bench.gate.measuring import FULL, SHORT, Pace, command, compared
from bench.gate.release import ROOT, NoRelease, checked_out, commit_of, last_release
from bench.gate.verdict import Comparison, heading, verdict
from bench.load.servers import ServerFailed
from bench.random_model import random_350m


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    against = arguments.against
    try:
        with ExitStack() as stack:
            release, commit = (against, commit_of(against)) if against else last_release()
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-")))
            tree = stack.enter_context(checked_out(commit))
            models = arguments.model or _models(scratch, is_full=arguments.full)
            pace = FULL if arguments.full else SHORT
            stack.callback(_tell_errors, scratch)
            comparisons, foreign_share = _measured(models, tree, scratch, pace)
    except (NoRelease, ServerFailed, RequestFailed) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"now, and {release} ({commit[:9]}):\n{heading()}")
    for each in comparisons:
        print(each.line())
    print(verdict(comparisons, release, foreign_share))
    return 0 if all(each.is_fast_enough for each in comparisons) else 1


def _measured(
    models: Sequence[Path], tree: Path, scratch: Path, pace: Pace
) -> tuple[list[Comparison], float]:
    """Of all models, and the largest share of the machine that others took."""
    comparisons: list[Comparison] = []
    foreign_share = 0.0
    for model in models:
        now = command("now", ROOT, model, scratch / f"{model.stem}-now")
        release = command("release", tree, model, scratch / f"{model.stem}-release")
        more, share = compared(now, release, pace, _progress)
        comparisons += more
        foreign_share = max(foreign_share, share)
    return comparisons, foreign_share


def _tell_errors(scratch: Path) -> None:
    """What the servers logged, before it is deleted."""
    for log in sorted(scratch.glob("*/server.log")):
        for line in log.read_text(errors="replace").splitlines():
            if " ERROR " in line:
                _progress(f"{log.parent.name}: {line}")


def _progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _models(scratch: Path, *, is_full: bool) -> list[Path]:
    return [*_found_models(scratch)] if is_full else [next(_found_models(scratch))]


def _found_models(scratch: Path) -> Iterator[Path]:
    """The embedded one, on which what we add shows most; the one that is served by
    default, where it is installed; and one as large as what is served on small devices.
    """
    catalog = load_catalog()
    checkpoint = catalog.fallback.checkpoint
    assert checkpoint is not None
    convert = [sys.executable, "-m", "convert", str(checkpoint), "--out", str(scratch)]
    subprocess.run([*convert, "--types", "Q8_0"], check=True, stdout=subprocess.DEVNULL)
    yield from scratch.glob("*.gguf")
    packaged = catalog.default.packaged
    if packaged is not None and (file := packaged.find()) is not None:
        yield file
    yield random_350m()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument(
        "--against", metavar="REF", help="a tag or commit (default: the last release)"
    )
    parser.add_argument(
        "--model",
        metavar="FILE",
        type=lambda name: Path(name).resolve(),
        action="append",
        help="a GGUF to measure; may be repeated",
    )
    parser.add_argument("--full", action="store_true", help="three models, more rounds, longer")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
