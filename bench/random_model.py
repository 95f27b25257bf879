"""A random model of 0.35 billion values, written once and kept outside the repository.

Knows no benchmark.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from appliance.store import synthetic
from appliance.store.synthetic import RandomShape, write_random_model

# A llama, of whose values the tied 128k vocabulary is 131 million.
SHAPE_350M = RandomShape(
    num_layers=16, embd=1024, ff=3584, heads=16, kv_heads=4, vocab=128_256, ctx=8192
)
CACHE = Path(tempfile.gettempdir()) / "appliance-bench"


def random_350m(cache: Path = CACHE) -> Path:
    """Every matrix Q4_K, 200 MB."""
    version = hashlib.sha256(Path(synthetic.__file__).read_bytes()).hexdigest()[:8]
    path = cache / f"random-350m-Q4_K-{version}.gguf"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        write_random_model(path, SHAPE_350M, "Q4_K")
    return path
