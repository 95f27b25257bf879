"""Hatch's build hook: the kernels travel in the package, as data of appliance.llama.

Knows what a wheel and an editable installation hold. Does not know how kernels are
compiled (kernels/build.py). Where they cannot be, the package is built without them and
says why in a file that takes their place.

APPLIANCE_KERNELS=off leaves them out; APPLIANCE_KERNELS_LIBRARY is a library that was
compiled before, for whichever machine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def _load_build() -> ModuleType:
    """kernels/build.py; hatch runs this file alone, so there is no package to import from."""
    spec = importlib.util.spec_from_file_location(
        "kernels_build", Path(__file__).with_name("build.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


build = _load_build()
FOLDER = build.LIBRARY.relative_to(build.CHECKOUT).parent
REASON_NAME = "not-built.txt"


class KernelsBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the library to wheels, and makes it in the checkout for editable ones."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        if version == "editable":
            self._make(build.LIBRARY.parent)
            return
        self._scratch = tempfile.TemporaryDirectory(prefix="appliance-kernels-")
        made = self._make(Path(self._scratch.name))
        build_data["force_include"][str(made)] = (FOLDER / made.name).as_posix()
        if made.name == build.LIBRARY_NAME:
            tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"

    def _make(self, folder: Path) -> Path:
        """The library in `folder`, or else the file that says why there is none."""
        library, reason = folder / build.LIBRARY_NAME, folder / REASON_NAME
        folder.mkdir(parents=True, exist_ok=True)
        compiled = os.environ.get("APPLIANCE_KERNELS_LIBRARY")
        try:
            if os.environ.get("APPLIANCE_KERNELS") == "off":
                raise build.NotBuilt("they were left out on request")
            if compiled:
                shutil.copy(compiled, library)
            else:
                build.build(build.find_compiler(), library, _find_objects(folder))
        except build.NotBuilt as error:
            self.app.display_warning(f"The kernels were not built: {error}.")
            library.unlink(missing_ok=True)  # of other sources
            reason.write_text(f"{error}\n")
            return reason
        reason.unlink(missing_ok=True)
        return library


def _find_objects(scratch: Path) -> Path:
    """Beside the sources, so that the next build is quick; elsewhere if not allowed."""
    try:
        build.OBJECTS.mkdir(parents=True, exist_ok=True)
    except OSError:
        return scratch / "objects"
    return build.OBJECTS if os.access(build.OBJECTS, os.W_OK) else scratch / "objects"
