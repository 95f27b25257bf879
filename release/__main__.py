"""`python -m release`: makes everything that is released, or some of its steps.

Knows the steps and their order, and nothing of how any is done.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import __version__
from release import bundle, container, dependencies, own_wheel, sbom
from release.deb import package
from release.homebrew import formula
from release.llama_cpp import build as llama_cpp
from release.target import CHECKOUT, MACHINES, NotMade, Target, read_epoch


@dataclass(frozen=True)
class Step:
    """Something that is made; it may use what the steps before it made."""

    name: str
    does: str
    run: Callable[[Target], None]


STEPS: tuple[Step, ...] = (
    Step("llama-cpp", "llama.cpp with a back end for every CPU", llama_cpp.make),
    Step("own", "the appliance, with its kernels", own_wheel.make),
    Step("dependencies", "what both need, and the model", dependencies.collect),
    Step("installer", "install.sh beside the wheels", bundle.put_installer),
    Step("container", "a Containerfile beside it", container.put_containerfile),
    Step("manifest", "what the wheels are for", bundle.write_manifest),
    Step("sbom", "what is inside, and its licences", sbom.make),
    Step("sums", "SHA-256 of every file", bundle.write_sums),
    Step("archive", "the bundle as one file", bundle.pack),
    Step("deb", "the same as a Debian package", package.make),
    Step("homebrew", "our sources, and a formula for them", formula.make),
    Step("downloads", "SHA-256 of all that people download", bundle.write_download_sums),
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    steps = "\n".join(f"  {step.name:<14}{step.does}" for step in STEPS)
    parser = argparse.ArgumentParser(
        prog="python -m release",
        description="Makes what is released.",
        epilog=f"steps, in their order (default: all):\n{steps}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "dist", help="default: dist")
    parser.add_argument(
        "--machine", choices=MACHINES, default=platform.machine(), help="default: this one's kind"
    )
    parser.add_argument(
        "--url", help="where people will download from; without it, there is no formula"
    )
    options = parser.parse_args(argv)
    unknown = set(options.steps) - {step.name for step in STEPS}
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    return options


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    try:
        target = Target(
            version=__version__,
            machine=options.machine,
            out=options.out.absolute(),
            epoch=read_epoch(),
            url=options.url,
        )
        for step in STEPS:
            if not options.steps or step.name in options.steps:
                began = time.monotonic()
                step.run(target)
                print(f"  ok    {step.name}: {step.does} ({time.monotonic() - began:.0f} s)")
    except NotMade as reason:
        print(f"Nothing was released: {reason}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
