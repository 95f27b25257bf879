"""A file of the user's is shown, asked for, kept, and written whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.cli.agents.agent import FileChange
from appliance.cli.agents.merging import merged_json
from appliance.cli.agents.writing import change_file
from appliance.errors import ApplianceError


class Person:
    """Who is asked and told."""

    def __init__(self, answer: bool = True) -> None:
        self.questions: list[str] = []
        self.lines: list[str] = []
        self._answer = answer

    def allows(self, question: str) -> bool:
        self.questions.append(question)
        return self._answer


def change(path: Path) -> FileChange:
    return FileChange(
        path=path, addition="ADD ME", merged=lambda text: merged_json(text, {"b": "2"})
    )


def make(path: Path, person: Person) -> bool:
    return change_file(change(path), allows=person.allows, say=person.lines.append)


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path, person = tmp_path / "folder" / "a.json", Person()
    assert make(path, person)
    assert path.read_text() == '{\n  "b": "2"\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert person.questions == []
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_file_that_is_there_is_changed_when_allowed_and_kept(tmp_path: Path) -> None:
    real, path, person = tmp_path / "dotfiles.json", tmp_path / "a.json", Person()
    real.write_text('{"a": "1"}\n')
    real.chmod(0o640)
    path.symlink_to(real)
    assert make(path, person)
    assert person.questions == [f"Change {path}?"]
    assert '-{"a": "1"}' in person.lines[0].splitlines()
    assert path.is_symlink()
    assert real.read_text() == '{\n  "a": "1",\n  "b": "2"\n}\n'
    kept = tmp_path / "dotfiles.json.before-appliance"
    assert kept.read_text() == '{"a": "1"}\n'
    assert {stat.S_IMODE(each.stat().st_mode) for each in (real, kept)} == {0o640}
    # nothing to do the second time
    assert make(path, Person(answer=False))
    real.write_text('{"a": "5"}\n')
    assert make(path, Person())
    assert kept.read_text() == '{"a": "1"}\n'
    assert (tmp_path / "dotfiles.json.before-appliance.2").read_text() == '{"a": "5"}\n'


def test_without_leave_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    assert not make(path, Person(answer=False))
    assert (path.read_text(), [*tmp_path.iterdir()]) == ("{}", [path])


def test_what_cannot_be_merged_is_said_with_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1} // mine')
    with pytest.raises(ApplianceError, match=r"not plain JSON(?s:.)*\n\nADD ME$"):
        make(path, Person())
    assert (path.read_text(), [*tmp_path.iterdir()]) == ('{"a": 1} // mine', [path])
