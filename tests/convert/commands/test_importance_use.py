"""`--importance` and `--verify-quality`: what is made of them, in which passes, and
what is refused.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from numpy.typing import NDArray

from convert import pipeline
from convert.__main__ import main
from convert.importance.imatrix_file import Entry, ImportanceMatrix, write_imatrix
from convert.quality.evaluate import EvaluateJob, evaluate
from convert.quality.gate import USUAL_DIVERGENCE, limit_of
from convert.quality.statistics import Quality
from convert.quantize import Kernel, load_ggml_kernel
from convert.recipe import TYPE_NAMES
from tests.convert.checkpoints import EMBEDDED, SHARED, Shape, write_checkpoint

NOVELS = EMBEDDED / "novels-6m"
HELD_OUT = SHARED / "data" / "novels-heldout.txt"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def field(path: Path, key: str) -> object:
    return GGUFReader(path).fields[key].contents()


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as Q2_K, weighed by the built-in text."""
    directory = tmp_path_factory.mktemp("weighted")
    assert (
        main([str(NOVELS), "--out", str(directory), "--types", "Q2_K", "--importance", "builtin"])
        == 0
    )
    return directory


def test_the_matrix_is_kept_and_what_it_was_computed_on_is_not(weighted: Path) -> None:
    assert names(weighted) == ["novels-6m-Q2_K.gguf", "novels-6m.imatrix"]
    made = weighted / "novels-6m-Q2_K.gguf"
    assert field(made, "quantize.imatrix.file") == "novels-6m.imatrix"
    assert field(made, "quantize.imatrix.dataset") == "calibration.txt"
    assert field(made, "quantize.imatrix.entries_count") == 6 * 7  # layers, matrices of each
    assert field(made, "quantize.imatrix.chunks_count") == field(
        weighted / "novels-6m.imatrix", "imatrix.chunk_count"
    )


def test_the_matrix_in_steps_of_ones_own_gives_the_same_file(
    weighted: Path, tmp_path: Path
) -> None:
    assert main([str(NOVELS), "--out", str(tmp_path), "--types", "Q8_0", "--name", "step"]) == 0
    matrix = tmp_path / "novels-6m.imatrix"
    assert main(["importance", str(tmp_path / "step-Q8_0.gguf"), "--out", str(matrix)]) == 0
    assert matrix.read_bytes() == (weighted / "novels-6m.imatrix").read_bytes()
    assert (
        main([str(NOVELS), "--out", str(tmp_path), "--types", "Q2_K", "--importance", str(matrix)])
        == 0
    )
    made = (tmp_path / "novels-6m-Q2_K.gguf").read_bytes()
    assert made == (weighted / "novels-6m-Q2_K.gguf").read_bytes()


def test_a_weighed_q2_k_predicts_better(
    weighted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weighed by novels it reads novels better in every respect; by the built-in text
    of anything, it diverges less.
    """
    if not HELD_OUT.is_file():
        pytest.skip("the held-out novel is not beside the repository")
    novel, text = HELD_OUT.read_text(), tmp_path / "end.txt"
    text.write_text(novel[-60_000:])
    (tmp_path / "begin.txt").write_text(novel[:60_000])
    assert (
        main([str(NOVELS), "--out", str(tmp_path), "--types", "Q2_K,BF16", "--name", "plain"]) == 0
    )
    assert "Q2_K was made without an importance matrix" in capsys.readouterr().err
    options = ["--name", "kindred", "--types", "Q2_K", "--importance", str(tmp_path / "begin.txt")]
    assert main([str(NOVELS), "--out", str(tmp_path), *options]) == 0
    reference = tmp_path / "plain-BF16.gguf"
    plain, general, kindred = (
        evaluate(EvaluateJob(model=path, reference=reference, text=text, threads=2)).quality
        for path in (
            tmp_path / "plain-Q2_K.gguf",
            weighted / "novels-6m-Q2_K.gguf",
            tmp_path / "kindred-Q2_K.gguf",
        )
    )
    assert kindred.perplexity.value < plain.perplexity.value
    for better in (general, kindred):
        assert upper_bound(better) < lower_bound(plain)


def upper_bound(quality: Quality) -> float:
    """Of the divergence, two standard errors above."""
    assert quality.divergence is not None
    return quality.divergence.kl_mean.value + 2 * quality.divergence.kl_mean.standard_error


def lower_bound(quality: Quality) -> float:
    assert quality.divergence is not None
    return quality.divergence.kl_mean.value - 2 * quality.divergence.kl_mean.standard_error


def test_types_that_weigh_nothing_need_no_measuring(tmp_path: Path) -> None:
    assert (
        main(
            [str(NOVELS), "--out", str(tmp_path), "--types", "Q8_0,F16", "--importance", "builtin"]
        )
        == 0
    )
    assert names(tmp_path) == ["novels-6m-F16.gguf", "novels-6m-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"blk.0.attn_q.weight": 64},
            "for blk.0.attn_q.weight it has 1 x 64 columns, but the checkpoint has 1 x 256",
        ),
        ({"layers.0.wq.weight": 256}, "it covers layers.0.wq.weight, but no tensor of this one"),
    ],
)
def test_another_models_matrix_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entries: dict[str, int], message: str
) -> None:
    ones = {
        name: Entry(np.ones((1, columns), np.float32), np.ones(1, np.int64))
        for name, columns in entries.items()
    }
    write_imatrix(tmp_path / "other.imatrix", ImportanceMatrix(ones, ("text",), 1, 512))
    out = tmp_path / "out"
    options = ["--types", "Q4_0", "--importance", str(tmp_path / "other.imatrix")]
    assert main([str(NOVELS), "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert names(out) == []


def test_the_matrix_does_not_overwrite_what_it_is_computed_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                str(EMBEDDED / "novels-draft"),
                "--out",
                str(tmp_path),
                "--types",
                "Q8_0",
                "--name",
                "m",
            ]
        )
        == 0
    )
    model = tmp_path / "m-Q8_0.gguf"
    before = model.read_bytes()
    assert main(["importance", str(model), "--out", str(model)]) == 2
    assert "would overwrite an input file. Choose another file." in capsys.readouterr().err
    text = tmp_path / "text.txt"
    text.write_text("kept")
    assert main(["evaluate", str(model), "--text", str(text), "--markdown", str(text)]) == 2
    assert (model.read_bytes(), text.read_text()) == (before, "kept")


def test_an_older_matrix_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = b"blk.0.attn_q.weight"
    (tmp_path / "old.dat").write_bytes(struct.pack("<ii", 1, len(name)) + name + bytes(16))
    out = tmp_path / "out"
    options = ["--types", "Q2_K", "--importance", str(tmp_path / "old.dat")]
    assert main([str(NOVELS), "--out", str(out), *options]) == 2
    assert "is an importance matrix in llama.cpp's older format" in capsys.readouterr().err
    assert not out.exists()


def test_a_text_that_is_not_there_or_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--out", str(out), "--types", "Q2_K", "--importance"]
    assert main([str(NOVELS), *options, str(tmp_path / "none")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    (tmp_path / "short.txt").write_text("Much too short.")
    assert main([str(NOVELS), *options, str(tmp_path / "short.txt")]) == 2
    assert "The text is too short: it has " in capsys.readouterr().err
    assert names(out) == []


def test_a_sound_conversion_passes_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--types", "Q8_0,Q2_K", "--verify-quality", "--json"]
    assert main([str(NOVELS), "--out", str(tmp_path), *options]) == 0
    # and not what they were compared with
    assert names(tmp_path) == ["novels-6m-Q2_K.gguf", "novels-6m-Q8_0.gguf"]
    captured = capsys.readouterr()
    done = json.loads(captured.out.splitlines()[-1])
    assert done["quality_verified"] is True
    notes = captured.err
    assert "Q8_0 diverges from BF16 by 0.000" in notes
    assert "Q2_K diverges from BF16 by 0.0" in notes
    assert "nats per token; the limit is 2.226." in notes


def test_the_checkpoints_own_type_is_compared_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main([str(NOVELS), "--out", str(tmp_path), "--types", "BF16,F16", "--verify-quality"]) == 0
    )
    notes = capsys.readouterr().err
    assert "BF16 is the checkpoint's own type, so there is nothing to compare it with." in notes
    assert "F16 diverges from BF16 by 0.000" in notes


class BrokenKernel:
    """Quantizes the right numbers into the wrong places:
    every block of a row shifted by one.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def quantize(
        self,
        rows: NDArray[np.float32],
        ggml_type: GGMLQuantizationType,
        weights: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        is_broken = ggml_type is GGMLQuantizationType.Q4_K
        return self._kernel.quantize(
            np.roll(rows, 1, axis=1) if is_broken else rows, ggml_type, weights
        )


def test_a_broken_conversion_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "load_ggml_kernel", lambda: BrokenKernel(load_ggml_kernel()))
    options = ["--types", "Q8_0,Q4_K_M", "--verify-quality"]
    assert main([str(NOVELS), "--out", str(tmp_path), *options]) == 2
    message = capsys.readouterr().err
    assert "Q4_K_M diverges from the unquantized model by " in message
    assert "0.0313 is usual for this type and 0.1564 is the limit" in message
    assert names(tmp_path) == []
    assert main([str(NOVELS), "--out", str(tmp_path), "--types", "Q4_K_M"]) == 0  # nobody asked


def test_a_conversion_that_fails_after_its_matrix_need_not_compute_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("It was a bright cold day in April, and nobody had yet been told of it. " * 120)
    options = ["--types", "Q4_K_M", "--importance", str(text), "--verify-quality"]
    out = tmp_path / "out"
    command = [str(NOVELS), "--out", str(out), *options]
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "load_ggml_kernel", lambda: BrokenKernel(load_ggml_kernel()))
        assert main(command) == 2
    assert names(out) == [".novels-6m.imatrix.unfinished", "novels-6m.imatrix"]

    assert main(command) == 0
    assert names(out) == ["novels-6m-Q4_K_M.gguf", "novels-6m.imatrix"]


def test_every_type_has_its_limit() -> None:
    assert set(USUAL_DIVERGENCE) == set(TYPE_NAMES)
    assert [limit_of(name) for name in ("F32", "Q6_K", "Q2_K")] == [
        0.02,
        5 * 0.005452,
        5 * 0.445132,
    ]


def test_a_short_context_is_measured_in_short_windows(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", Shape(extra={"max_position_embeddings": 64}))
    out = tmp_path / "out"
    options = ["--types", "Q4_0", "--importance", "builtin", "--verify-quality"]
    assert main([str(source), "--out", str(out), *options]) == 0
    assert names(out) == ["tiny-Q4_0.gguf", "tiny.imatrix"]
    assert field(out / "tiny.imatrix", "imatrix.chunk_size") == 64
