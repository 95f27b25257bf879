"""`appliance keys`: what it makes, prints and refuses, and which servers may start."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import serve
from appliance.cli.dispatch import main
from appliance.errors import BadSettings
from appliance.gateway.accounts.key_records import FILE_NAME
from appliance.settings import ServeSettings

Run = Callable[..., tuple[int, str, str]]
KEY = r"ak-[A-Za-z0-9]{8}-[A-Za-z0-9]{32}"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output, standard error."""

    def run(*words: str, folder: Path = tmp_path) -> tuple[int, str, str]:
        code = main(["keys", *words, "--state-dir", str(folder)], {"HOME": str(tmp_path)})
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def record_of(run: Run, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(run("show", name, "--json")[1])
    return record


def test_a_key_is_printed_once_and_alone(run: Run) -> None:
    code, out, err = run("create", "alice")
    assert code == 0
    assert re.fullmatch(KEY + "\n", out)
    assert "shown this once" in err
    assert "It is the first one" in err
    assert "first one" not in run("create", "bob")[2]
    for words in (("list",), ("show", "alice"), ("list", "--json"), ("show", "alice", "--json")):
        code, shown, _ = run(*words)
        assert code == 0
        assert out[3:11] in shown
        assert re.search(KEY, shown) is None


def test_terms_as_they_were_given_and_changed(run: Run) -> None:
    run("create", "alice", "--models", "a, org/b,a", "--tokens-per-day", "1000", "--priority", "20")
    before = record_of(run, "alice")
    assert before == {
        **before,
        "state": "active",
        "models": ["a", "org/b"],
        "tokens_per_day": 1000,
        "requests_per_minute": None,
        "priority": 20,
        "is_admin": False,
        "expires_s": None,
        "tokens_today": 0,
    }
    code, out, _ = run(
        "set", "alice", "--models", "none", "--concurrent-requests", "2", "--expires", "2099-01-31"
    )
    assert (code, "2099-01-31 00:00 UTC" in out) == (0, True)
    after = record_of(run, "alice")
    assert after == {
        **before,
        "models": None,
        "concurrent_requests": 2,
        "expires_s": 4_073_500_800.0,
    }
    run("set", "alice", "--expires", "30d")
    assert abs(record_of(run, "alice")["expires_s"] - time.time() - 30 * 86_400) < 3600
    run("set", "alice", "--expires", "2001-01-01")
    assert record_of(run, "alice")["state"] == "expired"


def test_an_administrators_key_is_one_until_it_is_told_otherwise(run: Run) -> None:
    run("create", "root", "--admin", "--priority", "3")
    assert record_of(run, "root")["is_admin"]
    run("set", "root", "--priority", "4")
    assert record_of(run, "root")["is_admin"]
    assert re.search(r"^admin +yes$", run("show", "root")[1], re.MULTILINE)
    run("set", "root", "--no-admin")
    assert not record_of(run, "root")["is_admin"]


def test_revoking_and_rotating(run: Run) -> None:
    old = run("create", "alice")[1]
    code, out, err = run("revoke", "alice")
    assert (code, out) == (0, "")
    assert "opens nothing any more" in err
    assert record_of(run, "alice")["state"] == "revoked"
    code, out, _ = run("rotate", "alice", "--json")
    answer = json.loads(out)
    assert (code, answer["name"]) == (0, "alice")
    assert re.fullmatch(KEY, answer["key"])
    assert answer["key"] != old.strip()
    assert record_of(run, "alice")["state"] == "active"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create",), "Whose key? Use 'appliance keys create NAME'."),
        (("list", "alice"), "list takes no name: use 'appliance keys show alice'."),
        (("revoke", "alice", "--priority", "3"), "revoke changes no terms."),
        (("set", "alice"), "Give what is to change"),
        (("show", "bob"), "There is no key 'bob'."),
        (("create", "alice"), "There is a key 'alice' already"),
        (("create", "a", "--expires", "2020-01-31"), "--expires must lie in the future"),
        (("create", "-a"), "'appliance keys' has no flag -a, and what begins with - is one."),
        (("create", "a b"), "A key's name must be 1 to 64 letters"),
        (
            ("create", ".."),
            "A key's name must be 1 to 64 letters, digits and any of . _ @ + -, and begin with a "
            "letter or digit (got '..').",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    run("create", "alice")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("destroy", "alice"), "invalid choice: 'destroy'"),
        (("create", "a", "--tokens-per-day", "0"), "between 1 and 1000000000000, or none"),
        (("create", "a", "--priority", "101"), "must be a whole number between 1 and 100"),
        (("create", "a", "--expires", "soon"), "a duration such as 30d"),
        (("create", "a", "--models", ","), "names with commas between them"),
    ],
)
def test_values_that_are_not_allowed(
    run: Run, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_nothing_is_made_by_looking(run: Run, tmp_path: Path) -> None:
    assert run("list")[:2] == (0, f"There are no keys in {tmp_path}.\n")
    assert run("list", "--json")[:2] == (0, "[]\n")
    for words in (("list",), ("list", "--json"), ("show", "alice")):
        code, out, err = run(*words, folder=tmp_path / "typo")
        assert (code, out) == (2, "")
        assert (
            err == f"error: There are no keys in {tmp_path}/typo: is it the server's --state-dir?\n"
        )
    code, _, err = run("show", "alice")
    assert (code, "is it the server's --state-dir?" in err) == (2, True)
    assert not (tmp_path / FILE_NAME).exists()


# --- which servers may start ----------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "128.0.0.1"])
def test_a_public_address_needs_a_key_or_consent(
    run: Run, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listening(Exception):  # it is as far as this test goes
        pass

    def stop(_settings: ServeSettings) -> None:
        raise Listening

    monkeypatch.setattr(serve, "listening_sockets", stop)
    monkeypatch.setattr(serve, "raise_on_stop_signals", lambda: None)
    monkeypatch.setattr(serve, "allow_many_files", lambda: None)
    monkeypatch.setattr(serve.logging, "basicConfig", lambda **_options: None)

    def start(**options: Any) -> None:
        settings = ServeSettings(
            models_dir=tmp_path, state_dir=tmp_path, **{"host": host, **options}
        )
        serve.run(settings, lambda: settings)

    with pytest.raises(BadSettings, match=r"appliance keys create NAME.*--api-key-file FILE, or"):
        start()
    (tmp_path / "keys").write_text("secret")
    for options in (
        {"insecure": True},
        {"api_key_file": tmp_path / "keys"},
        {"host": "::1"},
        {"host": "LOCALHOST"},
    ):
        with pytest.raises(Listening):
            start(**options)
    run("create", "alice")
    with pytest.raises(Listening):
        start()
    run("revoke", "alice")
    with pytest.raises(Listening):
        start()
