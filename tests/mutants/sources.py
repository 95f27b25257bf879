"""The sound files that faults are put into: the embedded model in many types, a small one of
each architecture that convert knows, and one of each kind of vocabulary.

Knows no fault.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from convert.pipeline import Job, convert
from tests.conftest import CHECKPOINT
from tests.convert.checkpoints import GOLDEN_NAMES, golden_checkpoint
from tests.vocabularies.kinds import KINDS
from tests.vocabularies.made_model import write_made_model

EMBEDDED_TYPES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M")
EMBEDDED_TYPES += ("Q2_K",)
_GOLDEN_TYPES = ("F32", "Q8_0", "Q4_K_M")


def write_sources(
    folder: Path,
    *,
    embedded_types: Sequence[str] = EMBEDDED_TYPES,
    golden_names: Sequence[str] = GOLDEN_NAMES,
) -> list[Path]:
    """Sorted by name, so that a case is the same at every run."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "convert", str(CHECKPOINT), "--out", str(folder)]
    command += ["--types", ",".join(embedded_types)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name in golden_names:
        checkpoint = golden_checkpoint(name, folder / f"{name}-checkpoint")
        convert(
            Job(source=checkpoint, directory=folder, name=name, types=_GOLDEN_TYPES, num_threads=1)
        )
    for name, kind in KINDS.items():
        write_made_model(folder / f"vocabulary-{name.replace(' ', '-')}.gguf", kind())
    return sorted(folder.glob("*.gguf"))
