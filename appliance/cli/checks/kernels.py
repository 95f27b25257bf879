"""Judges what the self-test found of our own kernels. Starts no process itself."""

from __future__ import annotations

import msgspec

from appliance.cli.checks import Check, CheckStatus
from appliance.llama.checks import KernelTest

_NAME = "our own kernels"
_NOTHING_TO_DO = "Nothing to do: llama.cpp's own are used instead."


def check_missing(reason: str) -> Check:
    """Everything works without them."""
    return Check(
        name=_NAME,
        status=CheckStatus.OK,
        finding=f"none: they {reason}; llama.cpp's own compute everything",
        data={"usable": []},
    )


def check_kernels(test: KernelTest) -> Check:
    """One that is slower here is no fault; one that computes something else is."""
    data = {**msgspec.to_builtins(test, str_keys=True), "usable": list(test.usable())}
    if test.failure:
        return Check(
            name=_NAME,
            status=CheckStatus.WARN,
            finding=f"none is used: {test.failure}",
            way_out=_NOTHING_TO_DO,
            data=data,
        )
    used = [f"{result.name} ({result.speedup:.1f})" for result in test.results if not result.flaw]
    flaws = [f"{result.name} {result.flaw}" for result in test.results if result.flaw]
    words = f"version {test.version} for {test.variant}; used, with their speed as a multiple of "
    words += f"llama.cpp's: {', '.join([*used, *test.untested]) or 'none'}"
    finding = ". Not used: ".join([words, *(["; ".join(flaws)] if flaws else [])])
    if all(result.is_right for result in test.results):
        return Check(name=_NAME, status=CheckStatus.OK, finding=finding, data=data)
    return Check(
        name=_NAME, status=CheckStatus.WARN, finding=finding, way_out=_NOTHING_TO_DO, data=data
    )
