"""Imports run one way, and the serving parent never loads native code.

Knows the names of the layers, not what is in them. An import counts wherever it stands:
at the top of a module, inside a function, under TYPE_CHECKING, or as a constant handed
to `importlib.import_module`.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# Which other rooms a room may import. A module belongs to the longest name here that is
# a prefix of its own; what is not listed is forbidden.
LEAVES = frozenset({"appliance.database", "appliance.fit", "appliance.store", "appliance.settings"})
RECORDS = frozenset({"appliance.protocol", "appliance.errors"})
LAYERS: dict[str, frozenset[str]] = {
    "convert": frozenset({"convert.source.descriptions"}),
    # what is fetched must be what is read: docs/decisions/0062.
    "convert.source.descriptions": frozenset(),
    "convert.native": frozenset({"convert"}),
    "appliance.error_base": frozenset(),
    "appliance.errors": frozenset({"appliance.error_base"}),
    "appliance.durations": frozenset(),
    "appliance.time_limit": frozenset(),
    "appliance.lifeline": frozenset(),
    "appliance.loopback": frozenset(),
    "appliance.logs": frozenset(),
    "appliance.web": frozenset(),
    "appliance.confinement": frozenset(),
    "appliance.protocol": frozenset({"appliance.errors"}),
    "appliance.settings": frozenset(
        {"appliance.errors", "appliance.durations", "appliance.loopback"}
    ),
    "appliance.store": frozenset({"appliance.errors", "convert.source.descriptions"}),
    "appliance.database": frozenset({"appliance.errors"}),
    # fit reads the GGUF header through store: docs/decisions/0001.
    "appliance.fit": RECORDS | {"appliance.store"},
    "appliance.engine": RECORDS,
    "appliance.llama.checks": RECORDS,
    "appliance.llama": RECORDS
    | {"appliance.engine", "appliance.llama.checks", "appliance.confinement"}
    | {"appliance.durations"},
    "appliance.text": RECORDS | {"appliance.engine"},
    "appliance.worker": RECORDS | LEAVES | {"appliance.time_limit"},
    "appliance.worker.child": RECORDS
    | {"appliance.worker", "appliance.text", "appliance.llama", "appliance.engine"}
    | {"appliance.logs", "appliance.lifeline"},
    "appliance.gateway": RECORDS
    | LEAVES
    | {"appliance.worker", "appliance.logs", "appliance.durations", "appliance.time_limit"},
    "appliance.launch": RECORDS
    | LEAVES
    | {"appliance.gateway", "appliance.worker", "appliance.llama.checks", "appliance.time_limit"},
    "appliance.api": RECORDS
    | {"appliance.gateway", "appliance.durations", "appliance.logs", "appliance.loopback"}
    | {"appliance.web", "appliance.time_limit"},
    "appliance.fleet": RECORDS
    | LEAVES
    | {"appliance.api", "appliance.launch", "appliance.gateway", "appliance.worker"}
    | {"appliance.time_limit"}
    # what is simulated is the engine itself: docs/decisions/0064
    | {"appliance.engine"},
    "appliance.cli": RECORDS
    | LEAVES
    | {
        "appliance.durations",
        "appliance.time_limit",
        "appliance.fleet",
        "appliance.api",
        "appliance.launch",
        "appliance.gateway",
        "appliance.worker",
        "appliance.logs",
        "appliance.lifeline",
        "appliance.loopback",
    }
    | {"appliance.llama.checks", "convert"},
    "appliance.__main__": frozenset({"appliance.cli"}),
}

# `import appliance` alone (its version) is everybody's.
ROOT = "appliance"

# Native code, and the one part that may import it.
NATIVE = {
    "llama_cpp": ("appliance.llama", "convert.native"),
    "llguidance": ("appliance.text",),
}

# What runs only in children.
CHILDREN = frozenset(
    {"appliance.llama", "appliance.text", "appliance.worker.child", "convert.native"}
)

# Imports the modules it is given, builds the application, and fails if that loaded
# native code. No model is asked for anything, so none needs to be there.
SERVING_PARENT = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)

from appliance.api.app import create_app
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel

model = ServedModel(id="novels", client=None, created=0)
create_app(Gateway(Router([model]), Admission()))
if loaded := set({list(NATIVE)}) & sys.modules.keys():
    sys.exit(f"loaded: {{loaded}}")
"""


# --- reading imports ------------------------------------------------------------------


def find_modules(repository: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of both packages under `repository`."""
    modules = {}
    for package in ("appliance", "convert"):
        for path in sorted((repository / package).rglob("*.py")):
            parts = path.relative_to(repository).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def read_imports(name: str, modules: dict[str, Path]) -> Iterator[str]:
    """The dotted names that module `name` imports: `from a import b` gives `a.b` where
    that is a module, else `a`.
    """
    path = modules[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                ancestors = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*ancestors, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules else base
        elif isinstance(node, ast.Call):
            function = node.func
            called = (
                function.attr
                if isinstance(function, ast.Attribute)
                else getattr(function, "id", "")
            )
            if called in ("import_module", "__import__"):
                named = [
                    argument.value
                    for argument in node.args[:1]
                    if isinstance(argument, ast.Constant)
                ]
                yield from (value for value in named if isinstance(value, str))


def is_program(module: str) -> bool:
    """Whether importing `module` would run it."""
    return module.endswith("__main__")


def part_of(module: str) -> str | None:
    """The layer `module` belongs to, or None for a module that has none."""
    while module and module not in LAYERS:
        module = module.rpartition(".")[0]
    return module or None


# --- the rules ------------------------------------------------------------------------


def find_forbidden(repository: Path) -> list[str]:
    """One sentence per import that the table does not allow."""
    modules = find_modules(repository)
    forbidden = []
    for name in modules:
        part = part_of(name)
        if part is None and name != ROOT:
            forbidden.append(f"{name} belongs to no layer: add it to LAYERS")
        for target in read_imports(name, modules):
            top = target.partition(".")[0]
            if top in NATIVE:
                allowed = part in NATIVE[top]
            elif top not in ("appliance", "convert") or target == ROOT:
                allowed = True
            else:
                target_part = part_of(target)
                rights = LAYERS.get(part or "", frozenset())
                allowed = part is not None and (
                    target_part == part or bool({target_part, target} & rights)
                )
            if not allowed:
                forbidden.append(f"{name} imports {target}")
    return forbidden


def find_cycle(repository: Path) -> list[str]:
    """The modules of one import cycle, first and last equal, or nothing."""
    modules = find_modules(repository)
    graph = {
        name: {target for target in read_imports(name, modules) if target != name}
        for name in modules
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_imports_follow_the_layers() -> None:
    assert find_forbidden(REPOSITORY) == []


def test_imports_have_no_cycle() -> None:
    assert find_cycle(REPOSITORY) == []


def test_a_serving_parent_has_no_native_code() -> None:
    """Importing every module that `appliance serve` may import, and building its
    application, loads no llama_cpp.
    """
    modules = find_modules(REPOSITORY)
    names = [name for name in modules if part_of(name) not in CHILDREN and not is_program(name)]
    assert {"appliance.cli.serve", "appliance.launch.loader"} <= {*names}
    done = subprocess.run(
        [sys.executable, "-c", SERVING_PARENT, *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_table_of_layers_is_itself_free_of_cycles() -> None:
    arrows = {
        part: {part_of(right) for right in rights} - {part} for part, rights in LAYERS.items()
    }
    graphlib.TopologicalSorter(arrows).prepare()


# --- the picture in the docs ----------------------------------------------------------

PICTURE = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
# "a --> b", "a["label"] --> b["label"]"; dotted arrows are no imports.
ARROW = re.compile(r"^\s*(\w+)(?:\[[^]]*\])? --> (\w+)", re.MULTILINE)
IN_THE_PICTURE = {
    "child": ("appliance.worker.child",),
    "checks": ("appliance.llama.checks",),
    "convert": ("convert",),
    "leaves": tuple(sorted(LEAVES)),
    "native": ("llama_cpp",),
}


def rooms_of(name: str) -> tuple[str, ...]:
    return IN_THE_PICTURE.get(name, (f"appliance.{name}",))


def test_every_arrow_in_the_architectures_picture_is_in_the_table() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    [picture] = PICTURE.findall(text)
    arrows = ARROW.findall(picture)
    assert len(arrows) > 15
    allowed = {(part, right) for part, rights in LAYERS.items() for right in rights}
    allowed |= {(part, top) for top, parts in NATIVE.items() for part in parts}
    shown = {(a, b) for left, right in arrows for a in rooms_of(left) for b in rooms_of(right)}
    assert sorted(shown - allowed) == []


# --- the rules see what they should ---------------------------------------------------


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        (
            "appliance/engine/a.py",
            "import appliance.api",
            "appliance.engine.a imports appliance.api",
        ),
        (
            "appliance/errors.py",
            "from . import engine",
            "appliance.errors imports appliance.engine",
        ),
        (
            "appliance/engine/a.py",
            "from ..text import b",
            "appliance.engine.a imports appliance.text",
        ),
        (
            "appliance/text/a.py",
            "def f():\n    import llama_cpp",
            "appliance.text.a imports llama_cpp",
        ),
        (
            "appliance/worker/client.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from appliance.llama "
            "import model",
            "appliance.worker.client imports appliance.llama",
        ),
        (
            "appliance/worker/supervisor.py",
            "from appliance.worker.child import loop",
            "appliance.worker.supervisor imports appliance.worker.child",
        ),
        (
            "appliance/api/a.py",
            "from appliance.engine import batch",
            "appliance.api.a imports appliance.engine.batch",
        ),
        (
            "convert/a.py",
            "from appliance.errors import BadRequest",
            "convert.a imports appliance.errors",
        ),
        (
            "appliance/cli/a.py",
            "import importlib\nimportlib.import_module('appliance.llama.probe')",
            "appliance.cli.a imports appliance.llama.probe",
        ),
        ("appliance/novel.py", "", "appliance.novel belongs to no layer: add it to LAYERS"),
    ],
)
def test_a_forbidden_import_is_found(
    tmp_path: Path, file: str, source: str, complaint: str
) -> None:
    tree = {
        "appliance/__init__.py": "",
        "appliance/engine/__init__.py": "",
        "appliance/engine/batch.py": "",
        "appliance/worker/__init__.py": "",
        "appliance/worker/child/__main__.py": "",
    }
    assert find_forbidden(write_tree(tmp_path, tree | {file: source})) == [complaint]


def test_a_cycle_inside_a_layer_is_found(tmp_path: Path) -> None:
    tree = {
        "appliance/engine/a.py": "from . import b",
        "appliance/engine/b.py": "def f():\n    from . import a",
    }
    write_tree(tmp_path, {"appliance/engine/__init__.py": "", **tree})
    assert set(find_cycle(tmp_path)) == {"appliance.engine.a", "appliance.engine.b"}
