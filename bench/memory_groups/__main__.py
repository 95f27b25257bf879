"""`python -m bench.memory_groups`: arguments, progress and files.

Measures nothing itself.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from bench.memory_groups.cases import CASES, GroupCase, next_better, write_models
from bench.memory_groups.groups import NoMemoryGroups
from bench.memory_groups.libraries import PrivateLibraries
from bench.memory_groups.report import CaseResult, GroupResults, markdown
from bench.memory_groups.server import Home
from bench.memory_groups.trial import plan_inside, try_forced, try_own_plan


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    # so that groups are taken away
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = GroupResults.empty()
    libraries = PrivateLibraries(arguments.scratch.resolve() / "libraries")
    home = _home(arguments.scratch, libraries)
    wanted = [
        case for case in CASES if not arguments.only or case.limit_bytes >> 20 in arguments.only
    ]
    try:
        for case in wanted:
            results.cases.append(_run(case, home, libraries))
            print(results.cases[-1].line(), file=sys.stderr, flush=True)
            results.save(arguments.scratch / "results.json")
            if not arguments.keep:
                shutil.rmtree(home.models / case.model)
    except NoMemoryGroups as error:
        print(f"no memory control group can be made here: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        print(markdown(results))
    return 0


def _run(case: GroupCase, home: Home, libraries: PrivateLibraries) -> CaseResult:
    write_models(case, home.models)
    libraries.make_cold()
    plan = plan_inside(case.model, home, case.limit_bytes)
    libraries.make_cold()
    own = try_own_plan(case.model, home, case.limit_bytes)
    better = next_better(plan, home.models / case.model)
    libraries.make_cold()
    forced = try_forced(case.model, home, case.limit_bytes, better.flags) if better else None
    return CaseResult.of(case, plan=plan, own=own, better=better, forced=forced)


def _home(scratch: Path, libraries: PrivateLibraries) -> Home:
    scratch = scratch.resolve()
    for name in ("models", "state"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    return Home(
        scratch / "models", scratch / "state", scratch / "servers.log", libraries.environment()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.memory_groups", description=__doc__)
    parser.add_argument(
        "--scratch",
        required=True,
        type=Path,
        metavar="DIR",
        help="for models, logs and results.json",
    )
    parser.add_argument(
        "--only", nargs="+", type=int, metavar="MIB", help="cases of these limits only"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the models there for another run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
