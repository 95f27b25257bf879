"""Tokens per second, from a count that only grows."""

from __future__ import annotations

from appliance.worker.token_rate import TokenRate


def test_the_rate_is_that_of_the_last_five_seconds() -> None:
    rate = TokenRate()
    assert rate.per_s is None
    rates = []
    for second, num_tokens in enumerate((100, 100, 110, 130, 150, 150, 150, 150, 150, 150, 150)):
        rate.observe(float(second), num_tokens)
        rates.append(rate.per_s)
    assert rates[:5] == [None, 0.0, 5.0, 10.0, 12.5]
    assert rates[5:] == [10.0, 10.0, 8.0, 4.0, 0.0, 0.0]
