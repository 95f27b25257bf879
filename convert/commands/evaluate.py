"""`appliance-convert evaluate`: what a quantization costs.

Knows no decoding and no statistics.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from convert.commands.dispatch import EXIT_CODES
from convert.console import print_json, print_line, print_note
from convert.counted_progress import OnCounted, choose_counted_progress
from convert.errors import BadInput, ConvertError, MissingFile
from convert.pipeline import default_num_threads
from convert.quality.evaluate import WINDOW_TOKENS
from convert.quality.picture import draw, require_matplotlib
from convert.quality.same_model import REFERENCE_TYPES, find_files, most_exact
from convert.quality.survey import Survey, SurveyConditions, SurveyedFile
from convert.quality.table import as_markdown, show_table

_DESCRIPTION = """\
Measure what a quantization costs: perplexity over a text and, compared with a
reference, how far the predictions have moved (KL divergence, and how often both
rank the same token first). Perplexity follows llama.cpp's definition.
With --against DIR, all files of one model are compared; the reference is the most
exact of them unless you give another. What was measured is kept beside each file as
MODEL.gguf.quality.json and not measured again; `appliance` reads it when it chooses
a quantization."""

_WANTED_TEXT = (
    "--text FILE is required: plain text (UTF-8) of the kind that this model will be used for "
    "and was not trained on. A few hundred kilobytes give errors of about one percent. For "
    "numbers that compare with published ones, use wiki.test.raw of WikiText-2."
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appliance-convert evaluate",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_inputs(parser)
    _add_conditions(parser)
    _add_outputs(parser)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL.gguf", nargs="?", type=Path, help="the file to measure"
    )
    parser.add_argument(
        "--reference",
        metavar="REF.gguf",
        type=Path,
        help="a more exact file of the same model to compare with",
    )
    parser.add_argument("--text", metavar="FILE", type=Path, help="text to predict (UTF-8)")
    parser.add_argument(
        "--against",
        metavar="DIR",
        type=Path,
        help="measure every file in DIR that holds the same model as MODEL.gguf, which may be "
        "left out if DIR holds only one model",
    )


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kv-type",
        metavar="T",
        default="f16",
        help="type of MODEL's KV cache: f16, q8_0, q5_1, q4_0, or two of them as K/V (default: "
        "f16)",
    )
    parser.add_argument(
        "--windows",
        metavar="N",
        type=_positive,
        help="measure only the first N windows (default: all)",
    )
    parser.add_argument(
        "--context",
        metavar="TOKENS",
        type=_positive,
        default=WINDOW_TOKENS,
        help="length of a window (default: %(default)s, as in published numbers)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_positive,
        default=default_num_threads(),
        help="number of threads (default: all cores)",
    )
    parser.add_argument(
        "--again", action="store_true", help="measure again even what is already known"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--picture",
        metavar="PREFIX",
        type=Path,
        help="plot quality against size as PREFIX.svg and PREFIX.png",
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the table to FILE as Markdown"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print progress and results as JSON lines on standard output",
    )


def run(args: argparse.Namespace) -> None:
    """Measures, prints the table, and writes what was asked for.

    Raises `ConvertError`.
    """
    text = _require_inputs(args)
    models, reference = _choose(args)
    conditions = SurveyConditions(
        text=text,
        threads=args.threads,
        window=args.context,
        max_windows=args.windows,
        kv_type=args.kv_type,
        again=args.again,
    )

    def show_progress(title: str) -> AbstractContextManager[OnCounted]:
        return choose_counted_progress(title, "windows", args.json, print_line)

    survey = Survey(conditions, reference, show_progress, print_note)
    rows, failures = _measure(survey, models)
    written = _write(args, rows)
    if args.json:
        print_json(
            event="done",
            files=[_record(row) for row in rows],
            written=[str(path) for path in written],
        )
    else:
        show_table(rows)
    if failures:
        raise failures[0]


def _measure(
    survey: Survey, models: Sequence[Path]
) -> tuple[list[SurveyedFile], list[ConvertError]]:
    """What could be measured, and what was wrong with the others: one bad file does not
    cost the others' numbers.

    Raises the first error where there is nothing else to show.
    """
    rows, failures = [], []
    for model in models:
        try:
            rows.append(survey.measure(model))
        except ConvertError as error:
            failures.append(error)
            if len(models) > 1:
                print_note(f"skipped: {error}")
    if not rows:
        raise failures[0]
    return rows, failures


def _require_inputs(args: argparse.Namespace) -> Path:
    """The text; refuses before anything long begins."""
    if args.model is None and args.against is None:
        raise BadInput("Pass a MODEL.gguf to measure, or a folder of models with --against DIR.")
    if args.text is None:
        raise BadInput(_WANTED_TEXT)
    text: Path = args.text
    for path in (args.model, args.reference, text):
        if path is not None and not path.is_file():
            raise MissingFile(f"The file {path} does not exist.")
    for path in (args.picture, args.markdown):
        if path is not None and not path.parent.is_dir():
            raise MissingFile(
                f"{path.name} cannot be written: the directory {path.parent} does not exist."
            )
    if args.markdown is not None and args.markdown.exists():
        for given in (args.model, args.reference, text):
            if given is not None and args.markdown.samefile(given):
                raise BadInput(
                    f"--markdown {args.markdown} would overwrite an input file. Choose another "
                    "file."
                )
    if args.picture is not None:
        require_matplotlib()
    return text


def _choose(args: argparse.Namespace) -> tuple[list[Path], Path | None]:
    """The files to measure, and the reference, which with --against is one of them if
    it lies there.
    """
    if args.against is None:
        return [args.model], args.reference
    files = find_files(args.against, args.model, print_note)
    models = [file.path for file in files]
    if args.reference is not None:
        return models, args.reference
    best = most_exact(files)
    if best is None:
        kinds = f"{', '.join(REFERENCE_TYPES[:-1])} or {REFERENCE_TYPES[-1]}"
        print_note(
            f"{args.against} has no {kinds} file to compare the others with, so only perplexity "
            "is measured"
        )
        return models, None
    print_note(
        f"the reference is {best.path.name} ({best.type}), the most exact file in {args.against}"
    )
    return models, best.path


def _write(args: argparse.Namespace, rows: Sequence[SurveyedFile]) -> list[Path]:
    written = draw(rows, args.picture) if args.picture is not None else []
    if args.markdown is not None:
        try:
            args.markdown.write_text(as_markdown(rows), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{args.markdown} cannot be written: {error.strerror}.") from error
        written.append(args.markdown)
    return written


def _record(row: SurveyedFile) -> dict[str, object]:
    """`row` as JSON data."""
    record: dict[str, object] = msgspec.to_builtins(row, enc_hook=str)
    return record


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0 (got {text!r})")
    return int(text)
