"""Added by the appliance's release: ggml's back ends for the CPU are libraries of their
own in this wheel, one for each kind of CPU, beside the others in lib/.

Loads the best that this CPU can run, as soon as the bindings are imported: as if it were
linked. ggml itself would look for them beside the program and in the current folder.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def load(library: ctypes.CDLL, folder: Path) -> None:
    """`library` is libllama. ggml says on stderr which one it takes; nobody asked yet."""
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_nothing)
    set_log, load_all = library.ggml_log_set, library.ggml_backend_load_all_from_path
    set_log.argtypes, set_log.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    load_all.argtypes, load_all.restype = [ctypes.c_char_p], None
    set_log(ctypes.cast(quiet, ctypes.c_void_p), None)
    load_all(os.fsencode(folder))
    set_log(None, None)


def _nothing(_level: int, _text: bytes, _data: object) -> None:
    pass
