"""What each quantization of a checkpoint costs: size, perplexity, divergence, speed, each with and without importance.

Run: python -m bench.quality CHECKPOINT TEXT DIR [NUM_WINDOWS]
Converts the checkpoint into DIR, once plainly and once weighed by the built-in calibration text, compares every file
with the unquantized one on TEXT (windows of 512 tokens, all of them unless NUM_WINDOWS is given), times one stream's
decoding on plain weights, prints a table in Markdown and draws DIR/quality.svg and .png. What is there already is not
made or measured again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from convert.command import say, say_note
from convert.counted_progress import OnCounted, choose_counted_progress
from convert.pipeline import default_num_threads
from convert.quality_picture import draw
from convert.quality_survey import Conditions, MeasuredFile, Survey
from convert.quality_table import caption, show_estimate

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
REFERENCE_TYPE = "BF16"
WEIGHED = "weighed"
_NUM_TIMINGS = 20  # of six steps each


def main(argv: list[str]) -> None:
    checkpoint, text, directory = Path(argv[0]), Path(argv[1]), Path(argv[2])
    conditions = Conditions(text, default_num_threads(), max_windows=int(argv[3]) if len(argv) > 3 else None)
    name = checkpoint.resolve().name
    files = make_files(checkpoint, directory, name)
    survey = Survey(conditions, directory / f"{name}-{REFERENCE_TYPE}.gguf", show_progress, say_note)
    rows = [survey.measure(path) for path in files]
    say("| type | bytes | perplexity | mean KL, nats | 99th percentile | same top token | tokens/s |")
    say("|---|---|---|---|---|---|---|")
    for row in rows:
        say(table_row(row, name))
    say(f"\n{caption(rows)}")
    draw(rows, directory / "quality")


def make_files(checkpoint: Path, directory: Path, name: str) -> list[Path]:
    """Those that are there are taken as they are."""
    plain = [directory / f"{name}-{each}.gguf" for each in (REFERENCE_TYPE, *TYPES)]
    weighed = [directory / f"{name}-{WEIGHED}-{each}.gguf" for each in TYPES if each != "Q8_0"]  # which weighs nothing
    if not all(path.exists() for path in plain):
        convert(checkpoint, directory, "--types", ",".join((REFERENCE_TYPE, *TYPES)))
    if not all(path.exists() for path in weighed):
        types = ",".join(each for each in TYPES if each != "Q8_0")
        convert(checkpoint, directory, "--name", f"{name}-{WEIGHED}", "--types", types, "--importance", "builtin")
    return [*plain, *weighed]


def convert(checkpoint: Path, directory: Path, *options: str) -> None:
    command = [sys.executable, "-m", "convert", str(checkpoint), "--out", str(directory), *options]
    subprocess.run(command, check=True)


def table_row(row: MeasuredFile, name: str) -> str:
    quality = row.measurement.quality
    words = row.path.stem.removeprefix(f"{name}-").split("-")
    label = f"{words[-1]}, weighed" if words[0] == WEIGHED else words[-1]
    cells = [label, f"{row.num_bytes:,}", show_estimate(quality.perplexity)]
    if quality.divergence is None:
        cells += ["reference", "", ""]
    else:
        divergence = quality.divergence
        cells += [show_estimate(divergence.kl_mean), show_estimate(divergence.kl_p99)]
        cells += [f"{show_estimate(divergence.top1, scale=100)} %"]
    return f"| {' | '.join([*cells, f'{tokens_per_s(row.path):.0f}'])} |"


def tokens_per_s(model: Path) -> float:
    """Of one stream near the beginning of its context: the median of many steps, in a child."""
    command = [sys.executable, "-m", "appliance.llama.timing", str(model), "off", str(default_num_threads())]
    asked = "decode 1\n" * _NUM_TIMINGS
    answers = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    times_ms = sorted(ms for line in answers.splitlines() for ms in json.loads(line))
    return 1000 / times_ms[len(times_ms) // 2]


def show_progress(title: str) -> AbstractContextManager[OnCounted]:
    return choose_counted_progress(title, "windows", False, say)


if __name__ == "__main__":
    main(sys.argv[1:])
