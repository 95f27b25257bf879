"""Evaluations of the embedded checkpoint's quantizations, with llama.cpp's own numbers
as the judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest

from convert.child import ChildDied, Refused
from convert.counted_progress import Counted
from convert.errors import BadInput, MissingFile
from convert.pipeline import Job, convert
from convert.quality import evaluate as evaluation
from convert.quality.evaluate import EvaluateJob, evaluate
from convert.quality.statistics import Estimate, Quality
from tests.convert.checkpoints import EMBEDDED, GOLDEN, Shape, write_checkpoint

TEXT = GOLDEN / "evaluation.txt"
NUM_WINDOWS = 2  # all there are in it


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded checkpoint as several types."""
    folder = tmp_path_factory.mktemp("evaluate")
    job = Job(
        source=EMBEDDED / "novels-6m",
        directory=folder,
        name="novels",
        types=("F32", "Q8_0", "Q2_K"),
        num_threads=2,
    )
    return {written.type: written.path for written in convert(job)}


@pytest.fixture(scope="module")
def qualities(files: dict[str, Path]) -> dict[str, Quality]:
    """Of every type beside F32."""
    return {
        name: evaluate(
            EvaluateJob(model=path, reference=files["F32"], text=TEXT, threads=2)
        ).quality
        for name, path in files.items()
    }


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What llama.cpp's own tool printed of a type, beside F32."""

    perplexity: Estimate
    perplexity_ratio: Estimate
    kl_mean: Estimate
    kl_p99: float
    top1_percent: Estimate


# llama-perplexity of the pinned version (llama-cpp-python 0.3.36 brings its source),
# x86-64 with AVX-512, 2026-11-23; each with -c 512 -t 2 --no-repack -f evaluation.txt:
#   llama-perplexity -m novels-F32.gguf --kl-divergence-base base
#   llama-perplexity -m novels-TYPE.gguf
#   llama-perplexity -m novels-TYPE.gguf --kl-divergence-base base --kl-divergence
LLAMA_CPP_EXACT = Estimate(48.8754, 5.00913)
LLAMA_CPP = {
    "Q8_0": Theirs(
        perplexity=Estimate(48.8404, 5.00435),
        perplexity_ratio=Estimate(0.999285, 0.000928),
        kl_mean=Estimate(0.000172, 0.000013),
        kl_p99=0.000797,
        top1_percent=Estimate(99.216, 0.391),
    ),
    "Q2_K": Theirs(
        perplexity=Estimate(49.7287, 5.09697),
        perplexity_ratio=Estimate(1.017462, 0.014878),
        kl_mean=Estimate(0.038551, 0.002695),
        kl_p99=0.272760,
        top1_percent=Estimate(83.922, 1.628),
    ),
}
# With -fa on -ctk TYPE -ctv TYPE, of Q8_0.
LLAMA_CPP_KV = {"q8_0": Estimate(48.7746, 4.99945), "q4_0": Estimate(49.1222, 5.03698)}


def agree(ours: Estimate, theirs: Estimate, rel: float) -> bool:
    """The errors may differ by as much as 5 %:
    they are small differences of large numbers.
    """
    return ours.value == pytest.approx(
        theirs.value, rel=rel
    ) and ours.standard_error == pytest.approx(theirs.standard_error, rel=max(rel, 0.05))


@pytest.mark.parametrize("type_name", LLAMA_CPP)
def test_perplexity_and_divergence_are_llama_cpps_own(
    type_name: str, qualities: dict[str, Quality]
) -> None:
    """Equal to their last digit where the numbers were made;
    other CPUs round otherwise.
    """
    theirs, quality = LLAMA_CPP[type_name], qualities[type_name]
    divergence = quality.divergence

    assert agree(quality.perplexity, theirs.perplexity, rel=0.005)
    assert divergence is not None
    assert agree(divergence.reference_perplexity, LLAMA_CPP_EXACT, rel=0.005)
    assert agree(divergence.perplexity_ratio, theirs.perplexity_ratio, rel=0.005)
    assert divergence.kl_mean.value == pytest.approx(theirs.kl_mean.value, rel=0.1)
    assert divergence.kl_mean.standard_error == pytest.approx(
        theirs.kl_mean.standard_error, rel=0.2
    )
    # of a handful of positions: 0.2 off on a CPU with AVX2 alone
    assert divergence.kl_p99.value == pytest.approx(theirs.kl_p99, rel=0.3)
    assert 100 * divergence.top1.value == pytest.approx(theirs.top1_percent.value, abs=1)
    assert 100 * divergence.top1.standard_error == pytest.approx(
        theirs.top1_percent.standard_error, rel=0.5
    )


@pytest.mark.parametrize("kv_type", LLAMA_CPP_KV)
def test_a_coarser_kv_cache_costs_what_it_costs_llama_cpp(
    kv_type: str, files: dict[str, Path]
) -> None:
    """The same file beside itself: what differs is the cache alone."""
    quality = evaluate(
        EvaluateJob(
            model=files["Q8_0"], reference=files["Q8_0"], text=TEXT, threads=2, kv_type=kv_type
        )
    ).quality

    assert agree(quality.perplexity, LLAMA_CPP_KV[kv_type], rel=0.005)
    assert quality.divergence is not None
    assert agree(quality.divergence.reference_perplexity, LLAMA_CPP["Q8_0"].perplexity, rel=0.005)
    assert 1e-5 < quality.divergence.kl_mean.value < 0.5


def test_quantizing_costs_more_the_fewer_the_bits(qualities: dict[str, Quality]) -> None:
    divergences = {name: quality.divergence for name, quality in qualities.items()}
    exact, eight, two = divergences["F32"], divergences["Q8_0"], divergences["Q2_K"]
    assert exact is not None
    assert eight is not None
    assert two is not None
    assert (exact.kl_mean.value, exact.top1.value, exact.perplexity_ratio.value) == (0.0, 1.0, 1.0)
    assert 0 < 50 * eight.kl_mean.value < two.kl_mean.value < two.kl_p99.value
    assert two.top1.value + 0.1 < eight.top1.value < 1
    assert qualities["Q2_K"].num_tokens == NUM_WINDOWS * 255
    for divergence in (eight, two):
        assert divergence.reference_perplexity == qualities["F32"].perplexity


def test_progress_counts_windows(files: dict[str, Path]) -> None:
    seen: list[Counted] = []
    done = evaluate(
        EvaluateJob(model=files["Q2_K"], reference=None, text=TEXT, threads=2, max_windows=1),
        seen.append,
    )

    assert seen == [Counted(0, 1), Counted(1, 1)]
    assert (done.result.num_windows, done.result.is_whole_text) == (1, False)
    assert (done.quality.num_tokens, done.quality.divergence) == (255, None)


def test_a_text_of_less_than_two_windows_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("It was a cold evening.")
    with pytest.raises(
        Refused, match=r"too short: it has \d tokens, but 2 windows of 512 need 1024"
    ):
        evaluate(EvaluateJob(model=files["Q2_K"], reference=None, text=short, threads=1))


def test_what_is_no_text_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    binary = tmp_path / "text"
    binary.write_bytes(b"abc\xff\n")
    with pytest.raises(BadInput, match=r"text is not UTF-8 text \(byte 3 is 0xff\)"):
        evaluate(EvaluateJob(model=files["Q2_K"], reference=None, text=binary, threads=1))
    with pytest.raises(MissingFile, match=r"The file .* does not exist"):
        evaluate(
            EvaluateJob(model=files["Q2_K"], reference=tmp_path / "none.gguf", text=TEXT, threads=1)
        )


def test_settings_that_measure_nothing_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(Refused, match=r"trained for contexts of 2048 tokens, so windows of 2560"):
        evaluate(
            EvaluateJob(model=files["Q2_K"], reference=None, text=TEXT, threads=1, window=2560)
        )
    with pytest.raises(BadInput, match="at least 16"):
        evaluate(EvaluateJob(model=files["Q2_K"], reference=None, text=TEXT, threads=1, window=4))
    with pytest.raises(Refused, match="Unknown KV cache type 'q9'"):
        evaluate(
            EvaluateJob(model=files["Q2_K"], reference=None, text=TEXT, threads=1, kv_type="q9")
        )


@pytest.mark.parametrize(
    ("vocab", "complaint"),
    [
        (260, "they have 4096 and 260 tokens"),
        (4096, "they tokenize the text differently, from token"),
    ],
)
def test_a_reference_of_another_vocabulary_is_refused(
    vocab: int, complaint: str, files: dict[str, Path], tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "other", Shape(vocab=vocab))
    other = convert(
        Job(source=source, directory=tmp_path, name="other", types=("F32",), num_threads=1)
    )[0].path
    with pytest.raises(
        Refused, match=f"do not share a vocabulary, so they cannot be compared: {complaint}"
    ):
        evaluate(EvaluateJob(model=files["Q2_K"], reference=other, text=TEXT, threads=1))


def test_a_model_without_numbers_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(files["F32"].read_bytes())
    weight = next(
        t for t in gguf.GGUFReader(broken, "r+").tensors if t.name == "output_norm.weight"
    )
    weight.data[7] = np.nan
    with pytest.raises(
        Refused, match=r"broken\.gguf predicts nothing valid after token 256 of window 0"
    ):
        evaluate(EvaluateJob(model=files["Q2_K"], reference=broken, text=TEXT, threads=1))


def test_a_death_of_native_code_names_the_model(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_request: object) -> object:
        raise ChildDied("llama.cpp was terminated by SIGILL: it said nothing")

    monkeypatch.setattr(evaluation, "ask", die)
    with pytest.raises(
        ChildDied,
        match=r"novels-Q2_K\.gguf could not be evaluated: llama.cpp was terminated by SIGILL",
    ):
        evaluate(EvaluateJob(model=files["Q2_K"], reference=None, text=TEXT, threads=1))
