"""Results as Markdown tables. Knows how figures are written, and measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from appliance.cli.bench.figures import Comparison, Spread
from bench.load.rounds import OURS, PEER, Results
from bench.load.scenarios import SCENARIOS, SHORT

_NOISY_SHARE = 0.03


def markdown(results: Results) -> str:
    return "\n".join([*_heading(results), "", *_targets(results), "", *_everything(results), ""])


def _heading(results: Results) -> Iterator[str]:
    yield (
        f"{results.date}, {results.machine}, {results.num_cpus} cores, {results.model}, "
        f"rounds: {results.num_rounds}."
    )
    if results.sizes == SHORT:
        yield (
            "**The short form: it shows that the load generator works, not how fast the servers "
            "are.**"
        )
    yield (
        "Medians over the rounds, least to most in brackets. The gain is how many times better "
        "ours is."
    )
    yield ""
    for name, line in results.commands.items():
        yield f"- {name}: `{line}`"
    yield f"- {_noise(results)}"


def _noise(results: Results) -> str:
    foreign = [each.foreign_share for each in results.measurements]
    if not foreign:
        return "Nothing was measured."
    num_noisy = sum(share > _NOISY_SHARE for share in foreign)
    idle = max(each.idle_server_share for each in results.measurements)
    generator = statistics.median(each.generator_share for each in results.measurements)
    return (
        f"CPU time that other processes took: median {_percent(statistics.median(foreign))}, over "
        f"{_percent(_NOISY_SHARE)} in {num_noisy} of {len(foreign)} measurements; the waiting "
        f"server at most {_percent(idle)}; the generator {_percent(generator)}."
    )


def _targets(results: Results) -> Iterator[str]:
    yield f"| scenario | figure | {OURS} | {PEER} | gain | target | reached |"
    yield "|---|---|---|---|---|---|---|"
    for scenario in SCENARIOS:
        for each in results.comparisons(scenario):
            if each.is_reached is not None:
                reached = "yes" if each.is_reached else "**no**"
                yield f"| {scenario.title} | {_values(each)} | {_target(each)} | {reached} |"


def _everything(results: Results) -> Iterator[str]:
    yield f"| scenario | figure | {OURS} | {PEER} | gain |"
    yield "|---|---|---|---|---|"
    for scenario in SCENARIOS:
        for each in results.comparisons(scenario):
            yield f"| {scenario.title} | {_values(each)} |"


def _values(each: Comparison) -> str:
    return (
        f"{each.figure.words} | {_spread(each.ours)} | {_spread(each.peer)} | {_spread(each.gain)}"
    )


def _target(each: Comparison) -> str:
    if each.figure.most is not None:
        return f"ours at most {each.figure.most:g}"
    return f"gain {each.figure.least_gain:g}"


def _spread(spread: Spread) -> str:
    if spread.least == spread.most:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.least)} to {_number(spread.most)})"


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
