"""`python -m bench.load`: arguments, progress and files. Measures nothing itself."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from appliance.cli.bench.stream import RequestFailed, now_s
from bench.load import picture, report
from bench.load.prompts import read_real_prompts
from bench.load.rounds import OURS, PEER, Results, Run
from bench.load.scenarios import SCENARIOS, SHORT, Sizes
from bench.load.servers import Command, ServerFailed
from bench.model_file import model_file

_RESULTS = "results.json"
_PROMPTS = Path(__file__).parents[2] / ".." / "shared" / "data" / "prompts"
_IDLE_WAIT = (
    "how long a measurement may wait for other processes to leave the machine "
    "(default: %(default)s)"
)
_PLACES = "{port}, {model} and {dir} (a directory of its own, kept over restarts) are filled in."


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.action == "report":
        _write(Results.load(arguments.out / _RESULTS), arguments.out)
        return 0
    # so that the servers are stopped
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.out.exists() and any(arguments.out.iterdir()):
        print(f"{arguments.out} is not empty: nothing there is overwritten", file=sys.stderr)
        return 2
    run = _run_of(arguments)
    results = run.empty_results()
    started_s = now_s()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        for each in run.measure():
            results.measurements.append(each)
            own = f"{each.scenario:14} {each.server}"
            print(
                f"{now_s() - started_s:6.0f} s  round {each.round_number}  {own}",
                file=sys.stderr,
                flush=True,
            )
            results.save(arguments.out / _RESULTS)
    except (ServerFailed, RequestFailed) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        _write(results, arguments.out)
    return 0


def _run_of(arguments: argparse.Namespace) -> Run:
    real_prompts = read_real_prompts(arguments.prompts) if arguments.prompts.is_dir() else None
    wanted = [each for each in SCENARIOS if not arguments.only or each.name in arguments.only]
    possible = [each for each in wanted if real_prompts is not None or not each.needs_real_prompts]
    for each in wanted:
        if each not in possible:
            print(
                f"{each.name} is left out: there are no prompts in {arguments.prompts}",
                file=sys.stderr,
            )
    return Run(
        ours=Command(
            OURS, arguments.ours, arguments.model.resolve(), (arguments.out / OURS).resolve()
        ),
        peer=Command(
            PEER, arguments.peer, arguments.model.resolve(), (arguments.out / PEER).resolve()
        ),
        num_rounds=1 if arguments.short else arguments.rounds,
        sizes=SHORT if arguments.short else Sizes(),
        real_prompts=real_prompts,
        scenarios=possible,
        idle_wait_s=0.0 if arguments.short else arguments.idle_wait,
    )


def _write(results: Results, out: Path) -> None:
    text = report.markdown(results)
    (out / "table.md").write_text(text)
    (out / "picture.svg").write_text(picture.svg(results))
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="measure both servers by turns")
    run.add_argument(
        "--ours", required=True, metavar="COMMAND", help=f"starts our server; {_PLACES}"
    )
    run.add_argument(
        "--peer", required=True, metavar="COMMAND", help="starts the other one, likewise"
    )
    run.add_argument(
        "--model",
        required=True,
        type=model_file,
        metavar="FILE",
        help="the GGUF that both serve, or its name",
    )
    run.add_argument(
        "--rounds",
        type=int,
        default=5,
        metavar="N",
        help="default: %(default)s, about 5 minutes each",
    )
    run.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="for results.json, table.md, picture.svg",
    )
    run.add_argument(
        "--only", nargs="+", choices=[each.name for each in SCENARIOS], help="these scenarios only"
    )
    run.add_argument(
        "--prompts", type=Path, default=_PROMPTS, metavar="DIR", help="the real prompts"
    )
    run.add_argument("--idle-wait", type=float, default=60, metavar="SECONDS", help=_IDLE_WAIT)
    run.add_argument(
        "--short", action="store_true", help="one small round, to see that it works: proves nothing"
    )
    again = actions.add_parser("report", help="write table and picture of measured results again")
    again.add_argument("out", type=Path, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
