"""A short form of `python -m tests.api.conformance 10000`."""

from __future__ import annotations

import pytest

from tests.api.conformance import check


@pytest.mark.parametrize("strict_parameters", [False, True])
def test_made_up_requests_find_no_5xx_and_no_answer_that_is_not_described(
    strict_parameters: bool,
) -> None:
    assert check(300, strict_parameters=strict_parameters) > 150
