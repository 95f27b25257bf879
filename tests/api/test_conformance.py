"""A short form of `python -m tests.api.conformance 10000`."""

from __future__ import annotations

from tests.api.conformance import check


def test_made_up_requests_find_no_5xx_and_no_answer_that_is_not_described() -> None:
    assert check(600) > 300
