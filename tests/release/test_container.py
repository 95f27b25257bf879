"""The Containerfile's form: what people's checkers look for.

Knows no builder: release/container says how it is built and tried.
"""

from __future__ import annotations

import json
import re

from release.container import CONTAINERFILE


def read_instructions() -> list[tuple[str, str]]:
    """Each instruction with the rest of its lines, without comments."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def read_last_stage() -> list[tuple[str, str]]:
    instructions = read_instructions()
    last = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[last + 1 :]


def test_it_has_two_stages_of_one_base_with_a_version() -> None:
    instructions = read_instructions()
    assert instructions[0] == ("ARG", "BASE=docker.io/library/debian:bookworm-slim")
    assert [rest for name, rest in instructions if name == "FROM"] == [
        "$BASE AS installed",
        "$BASE",
    ]


def test_it_fetches_nothing_by_address() -> None:
    assert "ADD" not in {name for name, _ in read_instructions()}
    assert not re.search(r"https?://(?!127\.0\.0\.1)|curl |wget ", CONTAINERFILE.read_text())


def test_it_runs_as_a_user_with_a_number() -> None:
    users = [rest for name, rest in read_last_stage() if name == "USER"]
    assert users == ["10001:10001"]


def test_what_runs_has_python_and_no_compiler() -> None:
    (run,) = (rest for name, rest in read_last_stage() if name == "RUN")
    install = re.search(r"apt-get install --yes --no-install-recommends ([^&]*?) &&", run)
    assert install is not None
    assert install[1] == "python3"


def test_every_install_forgets_the_lists_of_packages() -> None:
    runs = [rest for name, rest in read_instructions() if name == "RUN" and "apt-get" in rest]
    assert len(runs) == 2
    assert all("rm -rf /var/lib/apt/lists/*" in run for run in runs)


def test_its_health_is_asked_without_a_proxy_and_by_a_program() -> None:
    (check,) = (rest for name, rest in read_last_stage() if name == "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "/opt/appliance/lib/appliance/bin/python"
    compile(command[-1], "health check", "exec")
    assert "ProxyHandler({})" in command[-1]


def test_models_and_state_are_volumes_of_its_user() -> None:
    stage = dict(read_last_stage())
    assert json.loads(stage["VOLUME"]) == ["/models", "/state"]
    assert "--owner=appliance --group=appliance /models /state" in stage["RUN"]
    assert json.loads(stage["ENTRYPOINT"]) == ["appliance"]
