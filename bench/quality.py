"""What each quantization of a checkpoint costs: size, perplexity, divergence, speed,
each with and without importance.

    python -m bench.quality CHECKPOINT TEXT DIR [NUM_WINDOWS]

Converts the checkpoint into DIR: plainly, weighted by the built-in calibration text,
and weighted by the first third of TEXT, a text of the kind the model is for. Compares
every file with the unquantized one on the rest of TEXT (windows of 512 tokens, all of
them unless NUM_WINDOWS is given), times one stream's decoding on plain weights, prints
a table in Markdown and draws DIR/quality.svg and .png. What is there already is not
made or measured again.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from appliance.llama.checks.stopwatch import Stopwatch, TimedContext, TimedModel, Workload
from convert.console import print_line, print_note
from convert.counted_progress import OnCounted, choose_counted_progress
from convert.pipeline import default_num_threads
from convert.quality.picture import draw
from convert.quality.survey import Survey, SurveyConditions, SurveyedFile
from convert.quality.table import caption, show_estimate

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
WEIGHTED_TYPES = TYPES[1:]  # an importance matrix changes nothing in Q8_0
REFERENCE_TYPE = "BF16"
_NUM_ROUNDS = 5
_WORK = Workload(depth=0, prompt_rows=64, num_steps=24, streams=1)
_TIME_LIMIT_S = 600.0


def main(argv: list[str]) -> None:
    checkpoint, text, directory = Path(argv[0]), Path(argv[1]), Path(argv[2])
    max_windows = int(argv[3]) if len(argv) > 3 else None
    name = checkpoint.resolve().name
    calibration, rest = split_text(text, directory)
    files = make_files(checkpoint, directory, name)
    for weighted_by, importance in (("general", "builtin"), ("kindred", str(calibration))):
        files += make_weighted_files(checkpoint, directory, f"{name}-{weighted_by}", importance)
    conditions = SurveyConditions(text=rest, threads=default_num_threads(), max_windows=max_windows)
    survey = Survey(
        conditions, directory / f"{name}-{REFERENCE_TYPE}.gguf", show_progress, print_note
    )
    rows = [survey.measure(path) for path in files]
    print_line(
        "| type | weighted by | bytes | perplexity | mean KL, nats | 99th percentile | same top "
        "token | tokens/s |"
    )
    print_line("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print_line(table_row(row, name))
    print_line(f"\n{caption(rows)}")
    draw(rows, directory / "quality")


def split_text(text: Path, directory: Path) -> tuple[Path, Path]:
    """Its first third, to weigh by, and the rest, to measure with,
    as files in `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content = text.read_text(encoding="utf-8")
    middle = len(content) // 3
    parts = directory / f"first-third-of-{text.name}", directory / f"rest-of-{text.name}"
    for path, part in zip(parts, (content[:middle], content[middle:]), strict=True):
        path.write_text(part, encoding="utf-8")
    return parts


def make_files(checkpoint: Path, directory: Path, name: str) -> list[Path]:
    """Those that are there are taken as they are."""
    types = (REFERENCE_TYPE, *TYPES)
    files = [directory / f"{name}-{each}.gguf" for each in types]
    if not all(path.exists() for path in files):
        convert(checkpoint, directory, "--types", ",".join(types))
    return files


def make_weighted_files(
    checkpoint: Path, directory: Path, name: str, importance: str
) -> list[Path]:
    files = [directory / f"{name}-{each}.gguf" for each in WEIGHTED_TYPES]
    if not all(path.exists() for path in files):
        types = ",".join(WEIGHTED_TYPES)
        convert(checkpoint, directory, "--name", name, "--types", types, "--importance", importance)
    return files


def convert(checkpoint: Path, directory: Path, *options: str) -> None:
    command = [sys.executable, "-m", "convert", str(checkpoint), "--out", str(directory), *options]
    subprocess.run(command, check=True)


def table_row(row: SurveyedFile, name: str) -> str:
    quality = row.measurement.quality
    *weighted_by, type_name = row.path.stem.removeprefix(f"{name}-").split("-")
    cells = [
        type_name,
        "".join(weighted_by),
        f"{row.num_bytes:,}",
        show_estimate(quality.perplexity),
    ]
    if quality.divergence is None:
        cells += ["reference", "", ""]
    else:
        divergence = quality.divergence
        cells += [show_estimate(divergence.kl_mean), show_estimate(divergence.kl_p99)]
        cells += [f"{show_estimate(divergence.top1, scale=100)} %"]
    return f"| {' | '.join([*cells, f'{tokens_per_s(row.path):.0f}'])} |"


def tokens_per_s(model: Path) -> float:
    """Of one stream near the beginning of its context:
    the median of many steps, in a child.
    """
    threads = default_num_threads()
    timed = TimedModel(str(model), use_extra_bufts=False, use_mmap=True)
    context = TimedContext(
        kv_type="f16",
        threads=threads,
        batch_threads=threads,
        flash_attention=False,
        ubatch_rows=_WORK.prompt_rows,
    )
    with Stopwatch() as stopwatch:
        rounds = [stopwatch.round(timed, context, _WORK, _TIME_LIMIT_S) for _ in range(_NUM_ROUNDS)]
    return 1000 / statistics.median(ms for times in rounds for ms in times.alone_ms)


def show_progress(title: str) -> AbstractContextManager[OnCounted]:
    return choose_counted_progress(title, "windows", False, print_line)


if __name__ == "__main__":
    main(sys.argv[1:])
