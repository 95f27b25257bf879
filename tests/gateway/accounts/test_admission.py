"""API keys: how the file is read, and who gets in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance.errors import BadSettings, Unauthorized
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import ANONYMOUS
from appliance.gateway.accounts.key_file import FileKeys


def key_file(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.write_text(text, encoding="utf-8")
    return path


async def test_without_keys_everyone_may_ask() -> None:
    admission = Admission()
    assert await admission.authorize(None) is ANONYMOUS
    assert await admission.authorize("Bearer whatever") is ANONYMOUS
    assert not admission.requires_key


@pytest.mark.parametrize(
    "header", ["Bearer second-key", "bearer second-key", "Bearer   second-key "]
)
async def test_any_key_of_the_file_opens(tmp_path: Path, header: str) -> None:
    path = key_file(tmp_path, "\ufeff# office\n first-key \n\n\t# workshop\nsecond-key\n")
    admission = Admission.from_file(path)
    assert admission.requires_key
    await admission.authorize("Bearer first-key")
    await admission.authorize(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "first-key",
        "Basic first-key",
        "Bearer # office",
        "Bearer first-ke",
    ],
)
async def test_everything_else_is_refused(tmp_path: Path, header: str | None) -> None:
    admission = Admission.from_file(key_file(tmp_path, "# office\nfirst-key\n"))
    with pytest.raises(Unauthorized):
        await admission.authorize(header)


def test_keys_themselves_are_not_kept() -> None:
    assert "first-key" not in repr(vars(FileKeys(["first-key"])))


async def test_a_caller_is_known_by_a_part_of_the_keys_digest() -> None:
    admission = Admission(["first-key", "second-key"])
    first = await admission.authorize("Bearer first-key")
    assert first == await admission.authorize("bearer first-key")
    assert first.id == "key-" + hashlib.sha256(b"first-key").hexdigest()[:8]
    assert (await admission.authorize("Bearer second-key")).id != first.id


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n  # comments\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadSettings, match="holds no key"):
        Admission.from_file(key_file(tmp_path, text))


@pytest.mark.parametrize("line", ["two words", "schlüssel", "tab\tinside"])
def test_a_key_no_header_can_carry_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadSettings, match="Line 2") as raised:
        Admission.from_file(key_file(tmp_path, f"good\n{line}\n"))
    assert line not in str(raised.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be read"):
        Admission.from_file(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSettings, match="not a text file"):
        Admission.from_file(tmp_path / "binary")


@pytest.mark.parametrize(
    ("authorization", "named"),
    [
        (None, [("x-api-key", "first-key")]),
        (None, [("api-key", " first-key ")]),
        ("Bearer first-key", [("x-api-key", "first-key"), ("api-key", "first-key")]),
        ("Bearer", [("x-api-key", "first-key")]),
        ("Bearer ", [("x-api-key", "first-key")]),
        ("Basic cHJveHk6cHJveHk=", [("x-api-key", "first-key")]),
        ("Bearer first-key", [("x-api-key", "")]),
    ],
)
async def test_a_key_may_have_a_header_of_its_own(
    authorization: str | None, named: list[tuple[str, str]]
) -> None:
    admission = Admission(["first-key", "second-key"])
    first = await admission.authorize("Bearer first-key")
    assert await admission.authorize(authorization, named) == first


@pytest.mark.parametrize(
    ("authorization", "named", "words"),
    [
        ("Bearer first-key", [("x-api-key", "second-key")], "Authorization and x-api-key hold"),
        ("Bearer none", [("x-api-key", "first-key")], "Authorization and x-api-key hold"),
        (None, [("x-api-key", "first-key"), ("api-key", "none")], "api-key and x-api-key hold"),
        (None, [("x-api-key", "none")], "not valid"),
        ("Basic x", [("x-api-key", "Bearer first-key")], "not valid"),
        (None, [("x-api-key", "")], "or as 'x-api-key: KEY'"),
        ("Basic x", [], "must read 'Bearer KEY'"),
    ],
)
async def test_two_different_keys_are_refused_by_the_names_of_their_headers(
    authorization: str | None, named: list[tuple[str, str]], words: str
) -> None:
    with pytest.raises(Unauthorized, match=words):
        await Admission(["first-key", "second-key"]).authorize(authorization, named)
    assert await Admission().authorize(authorization, named) is ANONYMOUS


@pytest.mark.parametrize(
    ("keys", "is_admin"), [(["a"], True), (["a", "a"], True), (["a", "b"], False)]
)
async def test_a_files_only_key_is_an_administrators(keys: list[str], is_admin: bool) -> None:
    caller = await Admission(keys).authorize("Bearer a")
    assert caller.is_admin is is_admin


def test_where_no_key_is_needed_everybody_is_one() -> None:
    assert ANONYMOUS.is_admin
