"""Which of our own kernels are used on this machine: the setting, and what was found.

Knows no kernel and no serving. How one is judged is in `appliance.llama.checks`.
"""

from __future__ import annotations

import math
from pathlib import Path

from appliance.errors import BadSettings
from appliance.fit.machine.device import Device
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.bench import MAX_OTHERS_SHARE, OtherWork
from appliance.llama.checks import (
    KernelLibrary,
    KernelMemory,
    KernelTest,
    find_kernels,
    run_kernel_test,
)
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse
from appliance.store.event import OnEvent, StoreEvent

STATE_FILE_NAME = "kernels.json"


def kernel_memory(state_dir: Path) -> KernelMemory:
    return KernelMemory(state_dir / STATE_FILE_NAME)


def kernel_use(
    spec: ModelSpec, device: Device, on_event: OnEvent, budget: TimeBudget | None = None
) -> KernelUse:
    """Those that passed their test, which is done here (seconds) where it is not
    remembered; none where `budget` has no time left for it.

    Raises `BadSettings` where they are wanted, and there are none that work.
    """
    wish, has_time = spec.settings.kernels, spec.settings.kernels == "on" or spec.settings.exact
    if wish == "off":
        return NO_KERNELS
    library = find_kernels()
    if isinstance(library, str):
        on_event(StoreEvent(f"llama.cpp's own kernels compute: ours {library}"))
        return _none(wish, f"they {library}")
    is_wanted = wish == "on"
    memory = kernel_memory(spec.state_dir)
    test = memory.recall(library)
    if test is None or not test.is_whole:
        left_s = math.inf if budget is None or has_time else budget.left_s()
        threads = spec.settings.threads or device.threads
        on_event(StoreEvent("comparing our own kernels with llama.cpp's (once, seconds)"))
        if left_s > 0:
            others = OtherWork()
            test = run_kernel_test(library, threads, limit_s=left_s, known=test)
            # times that others disturbed are held against none later
            is_fair = others.share() <= MAX_OTHERS_SHARE
            memory.remember(library, test if is_fair else test.without_slow())
    _say(test, on_event)
    names = () if test is None else test.usable(with_slow=is_wanted)
    if names:
        return KernelUse(str(library.path), library.build, names)
    return _none(wish, (test and test.failure) or "none of them is right and quick here")


def examine_kernels(library: KernelLibrary, threads: int, memory: KernelMemory) -> KernelTest:
    """Tested anew, however long it takes, and remembered."""
    test = run_kernel_test(library, threads)
    memory.remember(library, test)
    return test


def _say(test: KernelTest | None, on_event: OnEvent) -> None:
    if test is not None and test.failure:
        text = f"our own kernels are not used: {test.failure}. 'appliance doctor' looks again"
        on_event(StoreEvent(text, is_warning=True))
    elif test is None or not test.is_whole:
        on_event(
            StoreEvent(
                "the comparison stops here, so as not to delay the start, or because other "
                "programs disturb it: llama.cpp's kernels are used for the rest, and the next "
                "start goes on with it"
            )
        )


def _none(wish: str, reason: str) -> KernelUse:
    if wish == "on":
        raise BadSettings(
            f"--kernels on is not possible: {reason}. Use --kernels auto, or see 'appliance "
            "doctor'."
        )
    return NO_KERNELS
