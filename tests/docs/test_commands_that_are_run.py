"""The pages' commands and programs that are marked so are run, as somebody would who has
a server running, and print what the pages say.

Knows no page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MiniLm
from tests.docs.fences import REPOSITORY, Fence, fences
from tests.docs.shell import typed
from tests.serve.server import Server, environment, free_port

LIMIT_S = 120
MARKED = [fence for fence in fences() if fence.kind == "run"]
PAGES_WITH_SOME = sorted({fence.page for fence in MARKED})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / ".curlrc").write_text('fail\nsilent\nshow-error\nwrite-out = "\\n"\n')
    return home


@pytest.fixture(scope="module")
def server(home: Path, minilm: MiniLm) -> Iterator[Server]:
    """With a model that continues prose, and one that embeds."""
    port = free_port()
    command = [sys.executable, "-m", "appliance", "serve", "novels-6m", str(minilm.files["Q8_0"])]
    flags = ["--no-tune", "--port", str(port)]
    flags += [f"--alias={name}=minilm-Q8_0" for name in ("embedder", "reranker")]
    server = Server([*command, *flags], port, environment(home), home)
    try:
        server.await_line(" ready: ")
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with our commands, `python`, and a `sudo` that changes nobody."""
    folder = tmp_path_factory.mktemp("bin")
    lines = {
        "appliance": f'exec {sys.executable} -m appliance "$@"',
        "appliance-convert": f'exec {sys.executable} -m convert "$@"',
        "python3": f'exec {sys.executable} "$@"',
        "sudo": 'exec "$@"',
    }
    for name, line in lines.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run(fence: Fence, server: Server, folder: Path, environment: dict[str, str]) -> str:
    """In bash or Python, with the server's address in the place of the pages', and a
    folder of the test's in that of the service's.
    """
    text = typed(fence.text) if fence.language == "console" else fence.text
    text = re.sub(r"(127\.0\.0\.1|localhost):8080", server.url.removeprefix("http://"), text)
    text = text.replace("/var/lib/appliance", str(folder / "state"))
    shell = ["bash", "-euo", "pipefail", "-c"]
    command = [sys.executable, "-c", text] if fence.language == "python" else [*shell, text]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{fence}: {done.stdout}{done.stderr}"
    return done.stdout


def shown(fence: Fence) -> re.Pattern[str]:
    """What the page says that it prints; `...` and `…` are anything."""
    typed_lines = typed(fence.text).splitlines()
    lines = [line for line in fence.text.splitlines() if line.removeprefix("$ ") not in typed_lines]
    return re.compile(re.sub(r"\\\.\\\.\\\.|…", ".*", re.escape("\n".join(lines))), re.DOTALL)


@pytest.mark.parametrize(
    "page", PAGES_WITH_SOME, ids=lambda page: page.relative_to(REPOSITORY).as_posix()
)
def test_what_is_marked_runs(
    page: Path, server: Server, home: Path, programs: str, tmp_path: Path
) -> None:
    port = server.url.rpartition(":")[2]
    (tmp_path / "models").symlink_to(REPOSITORY / "models")  # as in a checkout
    variables = {
        **environment(home),
        "APPLIANCE_PORT": port,
        "PATH": programs,
        "PYTHONPATH": str(REPOSITORY),
    }
    for fence in MARKED:
        if fence.page == page:
            printed = run(fence, server, tmp_path, variables)
            if fence.language == "console":
                assert shown(fence).fullmatch(printed.strip()), f"{fence} printed:\n{printed}"
