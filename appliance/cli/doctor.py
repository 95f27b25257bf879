"""`appliance doctor`: says which CPU paths of llama.cpp work on this machine. Knows no way to mend one."""

from __future__ import annotations

from appliance.cli.cpu_path import cpu_paths
from appliance.fit.device import measure
from appliance.llama.selftest import PathResult
from appliance.settings import ServeSettings


def run(settings: ServeSettings) -> int:
    paths = cpu_paths(settings, measure())
    print(f"plain weights:       {_describe(paths.plain)}")
    print(f"extra buffer types:  {_describe(paths.extra_bufts)}")
    print(f"used: {'extra buffer types' if paths.use_extra_bufts() else 'plain weights'}")
    return 0


def _describe(path: PathResult) -> str:
    return "works" if path.usable else f"UNUSABLE: {path.reason}"
