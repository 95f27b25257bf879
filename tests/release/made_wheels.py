"""A bundle of wheels as small as they can be, and the sources it is made of.

Knows what release/ reads in them, and nothing else of their form.
"""

from __future__ import annotations

from pathlib import Path

from release.sbom.inside import COMPILED_IN, Sources
from release.target import Target
from release.wheel import Wheel, WheelFile
from tests.release.conftest import make_target


def make_wheel(
    folder: Path,
    name: str,
    *headers: str,
    tag: str = "py3-none-any",
    texts: tuple[str, ...] = ("licenses/LICENSE",),
) -> Path:
    """The wheel of `name` NAME-VERSION, with these lines in its METADATA and licence texts
    of these names.
    """
    package, _, version = name.partition("-")
    metadata = [f"Name: {package.replace('_', '-')}", f"Version: {version}", *headers]
    files = {"METADATA": "\n".join(metadata) + "\n\nText\n"}
    files |= {text: f"{text} of {name}" for text in texts}
    contents = {
        f"{name}.dist-info/{file}": WheelFile(text.encode()) for file, text in files.items()
    }
    return Wheel(name=package, version=version, tag=tag, files=contents).write(folder)


def make_bundle(out: Path) -> Target:
    """A bundle of three packages: ours, llama-cpp-python, and one that both need."""
    target = make_target(out)
    make_wheel(target.wheels, "appliance-0.1.0", "License-Expression: MIT")
    make_wheel(target.wheels, "llama_cpp_python-1.2.3", "License: MIT")
    make_wheel(target.wheels, "needed-2.0", "License-Expression: BSD-3-Clause")
    return target


def make_sources(folder: Path) -> Sources:
    """The sources of that llama-cpp-python and the compiler, as far as they hold licences."""
    bindings = folder / "bindings"
    files = {
        bindings / "CHANGELOG.md": "## [1.2.3]\n- update to ggml-org/llama.cpp@abcdef123\n",
        bindings / "vendor/llama.cpp/LICENSE": "MIT, the ggml authors",
        folder / "usr/share/doc/gcc-11-base/copyright": "GCC's",
        folder / "usr/share/common-licenses/GPL-3": "The third",
    }
    for taken in COMPILED_IN:
        words = taken.words.decode()
        text = f"int before;\n/* {words} of {taken.name} */\nint after;\n" if words else taken.name
        files[bindings / "vendor/llama.cpp" / taken.file] = text
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sources(bindings, system=folder)
