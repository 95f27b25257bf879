"""What the benchmarks share:
a random model, written once and kept outside the repository.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest

from appliance.store import synthetic
from appliance.store.synthetic import RandomShape, write_random_model

# A llama of 0.35 billion values, of which the tied 128k vocabulary is 131 million.
SHAPE_350M = RandomShape(
    num_layers=16, embd=1024, ff=3584, heads=16, kv_heads=4, vocab=128_256, ctx=8192
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench-cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "appliance-bench",
        help="where the random model (200 MB) is kept between runs",
    )


@pytest.fixture(scope="session")
def random_model(pytestconfig: pytest.Config) -> Path:
    cache: Path = pytestconfig.getoption("--bench-cache")
    version = hashlib.sha256(Path(synthetic.__file__).read_bytes()).hexdigest()[:8]
    path = cache / f"random-350m-Q4_K-{version}.gguf"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        write_random_model(path, SHAPE_350M, "Q4_K")
    return path
