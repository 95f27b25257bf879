"""How long from `appliance serve` to the first whole answer of a model, with nothing
remembered, on an idle machine and on one whose cores others use too.

    python -m bench.first_answer [MODEL] [--rounds 3] [--busy 0] [--warm-files]

`--busy N` runs N loops that never sleep beside it. Each round has a home of its own;
with --warm-files it has been through install.sh's self-test before, as after an
installation. Prints each round's seconds, and its log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

QUESTION = {
    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
    "temperature": 0,
    "max_tokens": 32,
}
LIMIT_S = 300.0
LOOP = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--warm-files", action="store_true")
    given = parser.parse_args()
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as home, _loops(given.busy):
            environment = {**os.environ, "HOME": home}
            if given.warm_files:
                doctor = [sys.executable, "-m", "appliance", "doctor"]
                subprocess.run(doctor, env=environment, capture_output=True, check=True)
            seconds, log = _first_answer(given.model, Path(home), environment)
        print(f"{seconds:.1f} s beside {given.busy} loops", flush=True)
        print("".join(f"    {line}\n" for line in log.splitlines()), flush=True)


@contextlib.contextmanager
def _loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _first_answer(model: str, home: Path, environment: dict[str, str]) -> tuple[float, str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "appliance", "serve", model, "--port", str(port)]
    with (home / "log").open("w") as log:
        started_s = time.monotonic()
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            answer = _ask(port, started_s + LIMIT_S)
            seconds = time.monotonic() - started_s
        finally:
            server.terminate()
            server.wait()
    assert answer["choices"][0]["message"]["content"].strip()
    return seconds, (home / "log").read_text()


def _ask(port: int, deadline_s: float) -> dict[str, list[dict[str, dict[str, str]]]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(QUESTION).encode(),
        {"Content-Type": "application/json"},
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
                answer: dict[str, list[dict[str, dict[str, str]]]] = json.load(response)
                return answer
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
