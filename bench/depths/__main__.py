"""`python -m bench.depths`: arguments, progress and files. Measures nothing itself."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from appliance.cli.bench.stream import RequestFailed
from bench.depths import picture
from bench.depths.measure import Grid, Results
from bench.load.servers import Command, ServerFailed
from bench.model_file import model_file

_RESULTS = "results.json"


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.action == "report":
        _write(Results.load(arguments.out / _RESULTS), arguments.out)
        return 0
    # so that the servers are stopped
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = [
        Command(name, line, arguments.model.resolve(), (arguments.out / name).resolve())
        for name, _, line in (each.partition("=") for each in arguments.server)
    ]
    grid = Grid(
        depths=arguments.depths,
        stream_counts=arguments.streams,
        num_new_tokens=arguments.tokens,
        most_cells=arguments.most_cells,
        idle_wait_s=arguments.idle_wait,
    )
    results = Results.empty(commands)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        for point in grid.measure(commands, arguments.rounds):
            results.points.append(point)
            results.save(arguments.out / _RESULTS)
            print(
                f"round {point.round_number}  {point.server:16} {point.num_streams:3} streams over "
                f"{point.depth:5}: {point.tokens_per_s:6.1f} tokens/s",
                file=sys.stderr,
                flush=True,
            )
    except (ServerFailed, RequestFailed) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        _write(results, arguments.out)
    return 0


def _write(results: Results, out: Path) -> None:
    text = picture.markdown(results)
    (out / "table.md").write_text(text)
    (out / "picture.svg").write_text(picture.svg(results))
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.depths", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="measure one server after the other")
    run.add_argument(
        "--server",
        required=True,
        action="append",
        metavar="NAME=COMMAND",
        help="starts a server; {port}, {model} and {dir} (a directory of its own) are filled in; "
        "may be given several times",
    )
    run.add_argument("--model", required=True, type=model_file, metavar="FILE", help="the GGUF")
    run.add_argument("--out", required=True, type=Path, metavar="DIR", help="for what is found")
    run.add_argument("--depths", type=int, nargs="+", default=[0, 1000, 4000], metavar="TOKENS")
    run.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="N")
    run.add_argument("--tokens", type=int, default=48, metavar="N", help="of each answer")
    run.add_argument("--most-cells", type=int, default=17000, metavar="N")
    run.add_argument("--rounds", type=int, default=1, metavar="N")
    run.add_argument("--idle-wait", type=float, default=30, metavar="SECONDS")
    again = actions.add_parser("report", help="write table and picture of measured results again")
    again.add_argument("out", type=Path, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
