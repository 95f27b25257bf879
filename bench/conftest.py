"""What the benchmarks share: a random model."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.model_file import model_file
from bench.random_model import CACHE, random_350m


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench-cache",
        type=Path,
        default=CACHE,
        help="where the random model (200 MB) is kept between runs",
    )
    parser.addoption("--bench-model", help="a GGUF, or smollm2-135m, instead of the random model")


@pytest.fixture(scope="session")
def random_model(pytestconfig: pytest.Config) -> Path:
    given: str | None = pytestconfig.getoption("--bench-model")
    if given is not None:
        return model_file(given)
    cache: Path = pytestconfig.getoption("--bench-cache")
    return random_350m(cache)
