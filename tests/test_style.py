"""The code's form, as far as it can be counted:
sizes, widths, positions, who names whom.

Knows the rules of CONTRIBUTING.md, and no exception to them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PRODUCT = ("appliance", "convert")
EVERYTHING = (*PRODUCT, "tests", "bench", "release")

MAX_FILE_LINES = 400
MAX_MODULES_IN_A_ROOM = 20
MAX_POSITIONAL_ARGUMENTS = 4
P90_LINE_WIDTH_BELOW = 90

# Below these, options are values that somebody has read: `Launch`, `ModelSettings`.
READERS_OF_SETTINGS = (
    "appliance/settings",
    "appliance/cli",
    "appliance/launch/names.py",
    # a server's start, which a replica of a fleet has as well
    "appliance/launch/start_plan.py",
    "appliance/fleet/serving",
)


def find_sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def show(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


# --- tests ----------------------------------------------------------------------------


def find_imported_modules(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Dotted names, and the lines that import them;
    of `from a import b` both a and a.b.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def test_no_test_module_is_imported_by_another() -> None:
    tests = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in find_sources("tests", "bench")
        if path.name.startswith("test_")
    }
    found = [
        f"{show(path)}:{line} imports {name}"
        for path in find_sources("tests", "bench")
        for name, line in find_imported_modules(parse(path))
        if name in tests
    ]
    assert found == [], "move what is shared into a module of its own"


# --- sizes ----------------------------------------------------------------------------


def test_no_file_is_longer_than_people_read_in_one_sitting() -> None:
    lengths = {
        show(path): len(path.read_bytes().splitlines()) for path in find_sources(*EVERYTHING)
    }
    too_long = {name: length for name, length in lengths.items() if length > MAX_FILE_LINES}
    assert too_long == {}, "split it by meaning"


def test_no_room_is_a_heap() -> None:
    modules: dict[str, int] = {}
    for path in find_sources(*PRODUCT):
        if path.name != "__init__.py":
            modules[show(path.parent)] = modules.get(show(path.parent), 0) + 1
    crowded = {room: count for room, count in modules.items() if count > MAX_MODULES_IN_A_ROOM}
    assert crowded == {}, "give it rooms of its own"


def test_most_lines_are_narrow() -> None:
    widths = sorted(
        len(line)
        for path in find_sources(*PRODUCT)
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    )
    assert widths[len(widths) * 9 // 10] < P90_LINE_WIDTH_BELOW


# --- records --------------------------------------------------------------------------


def names_a_class(function: ast.expr) -> bool:
    """By its capital, as `Plan`, `plans.Plan`, `Plan[int]`;
    or as `cls` or `type(plan)`.
    """
    match function:
        case ast.Name(id="cls") | ast.Call(func=ast.Name(id="type")):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lstrip("_")[:1].isupper()
        case ast.Subscript(value=subscripted):
            return names_a_class(subscripted)
    return False


def find_calls_by_position(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of a class with more positional arguments than a reader can tell apart."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not names_a_class(node.func):
            continue
        num_positions = sum(not isinstance(argument, ast.Starred) for argument in node.args)
        if num_positions > MAX_POSITIONAL_ARGUMENTS:
            yield node


def test_records_are_built_by_keyword() -> None:
    found = [
        f"{show(path)}:{call.lineno} {ast.unparse(call.func)} with {len(call.args)} positions"
        for path in find_sources(*EVERYTHING)
        for call in find_calls_by_position(parse(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("Plan(1, 2, 3, 4, 5)", True),
        ("Plan(1, 2, 3, 4)", False),
        ("Plan(1, 2, 3, 4, slots=5)", False),
        ("Plan(1, 2, 3, 4, *rest)", False),
        ("plan(1, 2, 3, 4, 5)", False),
        ("plans.Plan(1, 2, 3, 4, 5)", True),
        ("plans._Plan(1, 2, 3, 4, 5)", True),
        ("plans.Plan.of(1, 2, 3, 4, 5)", False),
        ("Plan[int](1, 2, 3, 4, 5)", True),
        ("cls(1, 2, 3, 4, 5)", True),
        ("type(plan)(1, 2, 3, 4, 5)", True),
        ("self.plan(1, 2, 3, 4, 5)", False),
    ],
)
def test_a_call_by_position_is_found(source: str, is_found: bool) -> None:
    assert any(find_calls_by_position(ast.parse(source))) is is_found


# --- settings -------------------------------------------------------------------------


def test_only_readers_of_settings_name_the_settings_of_a_server() -> None:
    found = [
        show(path)
        for path in find_sources(*PRODUCT)
        if "ServeSettings" in path.read_text(encoding="utf-8")
        and not show(path).startswith(READERS_OF_SETTINGS)
    ]
    assert found == [], "take the value that is needed, not all that could be set"
