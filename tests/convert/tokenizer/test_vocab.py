"""llama.cpp, reading our GGUF, tokenizes
as Hugging Face's `tokenizers` reading the checkpoint.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from tokenizers import (
    BertWordPieceTokenizer,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.pipeline import Job, convert
from convert.tokenizer.deviation import Deviation, comparable
from convert.tokenizer.pretokenizer import KNOWN, PreTokenizer, find_pretokenizer, isolating
from convert.tokenizer.sample_texts import SAMPLE_TEXTS
from tests.convert import llama_tools
from tests.convert.checkpoints import EMBEDDED, SHARED, Shape, write_checkpoint

SHARED_MODELS = SHARED / "models"

SAMPLE = list(SAMPLE_TEXTS)


def convert_f16(source: Path, out: Path) -> Path:
    return convert(Job(source=source, directory=out, name="vocab", types=("F16",), num_threads=2))[
        0
    ].path


def reference(source: Path, texts: list[str], *, add_special: bool) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=add_special).ids for text in texts]


def assert_same_tokens(
    source: Path, out: Path, texts: list[str], *, add_special: bool = True
) -> None:
    model = convert_f16(source, out / "gguf")
    expected = reference(source, texts, add_special=add_special)
    actual = llama_tools.tokenize(model, texts, add_special=add_special)
    differing = [text for text, a, b in zip(texts, actual, expected, strict=True) if a != b]
    assert not differing


@pytest.mark.parametrize("add_special", [True, False])
def test_embedded_tokenizes_as_hugging_face(tmp_path: Path, add_special: bool) -> None:
    chat = "<|im_start|>user\nWho is there?<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    assert_same_tokens(EMBEDDED / "novels-6m", tmp_path, [*SAMPLE, chat], add_special=add_special)


def test_embedded_metadata_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    source = EMBEDDED / "novels-6m"
    assert llama_tools.describe(convert_f16(source, tmp_path)) == {
        "bos": 0,
        "eos": 2,
        "eot": 2,
        "pad": 3,
        "add_bos": False,  # its post-processor adds nothing
        "num_tokens": 4096,
        "chat_template": (source / "chat_template.jinja").read_text(),
    }


def test_of_several_ends_llama_cpp_heeds_the_one_it_would_not_know(tmp_path: Path) -> None:
    """An end of turn with a name of its own,
    which only generation_config.json tells.
    """
    source = write_checkpoint(tmp_path / "source", Shape())
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    end = tokenizer["added_tokens"][0]
    names = ["<stop>", "<turn>"]
    added = [{**end, "id": end["id"] + i, "content": name} for i, name in enumerate(names)]
    tokenizer["model"]["vocab"].pop(end["content"])
    change_json(source / "tokenizer.json", added_tokens=added, model=tokenizer["model"])
    change_json(source / "tokenizer_config.json", eos_token="<stop>")
    ids = [token["id"] for token in added]
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    described = llama_tools.describe(convert_f16(source, tmp_path))
    assert (described["eos"], described["eot"]) == tuple(ids)


@pytest.fixture
def stories() -> Path:
    if not SHARED_MODELS.is_dir():
        pytest.skip("the shared checkpoints are not beside the repository")
    return SHARED_MODELS / "stories260K"


@pytest.mark.parametrize("add_special", [True, False])
def test_sentencepiece_tokenizes_as_hugging_face(
    stories: Path, tmp_path: Path, add_special: bool
) -> None:
    assert_same_tokens(stories, tmp_path, SAMPLE, add_special=add_special)


def test_sentencepiece_without_its_tokenizer_model(stories: Path, tmp_path: Path) -> None:
    source = tmp_path / "stories"
    shutil.copytree(stories, source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    (source / "tokenizer.model").unlink()
    assert_same_tokens(source, tmp_path, SAMPLE)


GEMMA_SPLIT = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
SPACES_TO_MARKS = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "deviations"),
    [
        pytest.param(
            SPACES_TO_MARKS,
            GEMMA_SPLIT,
            (),
            id="gemma: no space before the text, a split that finds nothing",
        ),
        pytest.param(
            {
                "type": "Sequence",
                "normalizers": [{"type": "Prepend", "prepend": "▁"}, SPACES_TO_MARKS],
            },
            None,
            (),
            id="llama 2: a space before the text, by the normalizer",
        ),
        pytest.param(
            None,
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
            (Deviation.DOUBLED_SPACE,),
            id="mistral: a space before the text, by the pre-tokenizer",
        ),
    ],
)
@pytest.mark.parametrize("has_model", [True, False])
def test_every_spelling_of_sentencepiece(
    stories: Path,
    tmp_path: Path,
    normalizer: Any,
    pre_tokenizer: Any,
    deviations: Any,
    has_model: bool,
) -> None:
    source = tmp_path / "stories"
    shutil.copytree(stories, source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    change_json(source / "tokenizer.json", normalizer=normalizer, pre_tokenizer=pre_tokenizer)
    if not has_model:
        (source / "tokenizer.model").unlink()
    assert_same_tokens(source, tmp_path, [comparable(text, deviations) for text in SAMPLE])


def with_runs_of_spaces(stories: Path, directory: Path) -> Path:
    """Gemma's way with spaces: tokens for runs of them, with merges of equal standing
    that are sorted by length.
    """
    tokenizer = json.loads((stories / "tokenizer.json").read_text())
    runs = {"▁" * n: 512 + n - 2 for n in range(2, 9)}
    pairs = [
        ("▁" * left, "▁" * right)
        for left in range(1, 8)
        for right in range(1, 8)
        if left + right <= 8
    ]
    model = tokenizer["model"]
    model["vocab"] |= runs
    model["merges"] = [
        [left, right] for left, right in sorted(pairs, key=lambda p: len(p[0]))
    ] + model["merges"]
    write_checkpoint(directory, Shape(vocab=512 + len(runs)))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "</s>", "bos_token": "<s>"})
    )
    return directory


def test_runs_of_spaces_may_be_merged_in_any_order(stories: Path, tmp_path: Path) -> None:
    assert_same_tokens(with_runs_of_spaces(stories, tmp_path / "source"), tmp_path, SAMPLE)


def test_merges_that_stand_apart_are_refused(stories: Path, tmp_path: Path) -> None:
    source = with_runs_of_spaces(stories, tmp_path / "source")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] += [["▁", "t"], ["h", "e"], ["▁t", "he"], ["▁", "t"]]
    change_json(source / "tokenizer.json", model=tokenizer["model"])
    with pytest.raises(UnsupportedModel, match="ranks the merges into '▁t' apart"):
        convert_f16(source, tmp_path)


def test_sentencepiece_without_tokenizer_json_adds_bos(stories: Path, tmp_path: Path) -> None:
    source = tmp_path / "stories"
    shutil.copytree(stories, source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    (source / "tokenizer.json").unlink()
    tokens = llama_tools.tokenize(convert_f16(source, tmp_path), SAMPLE, add_special=True)
    assert tokens == reference(stories, SAMPLE, add_special=True)


def trained_checkpoint(
    directory: Path, pre: Any, *, ignore_merges: bool = False, bos: bool = False
) -> Path:
    """A random model with a BPE trained on the sample, split by `pre`."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE * 2, trainer)
    if bos:
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 0)]),
            ]
        )
    write_checkpoint(directory, Shape(vocab=tokenizer.get_vocab_size()))
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|begin|>", "eos_token": "<|end|>"})
    )
    return directory


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_every_known_pretokenizer_splits_as_hugging_face(
    tmp_path: Path, known: PreTokenizer
) -> None:
    source = trained_checkpoint(
        tmp_path / "source",
        isolating(known.expressions),
        ignore_merges=known.ignores_merges,
        bos=True,
    )
    section = json.loads((source / "tokenizer.json").read_text())["pre_tokenizer"]
    assert find_pretokenizer(section, known.ignores_merges) is known
    assert_same_tokens(source, tmp_path, [comparable(text, known.deviations) for text in SAMPLE])


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("gpt-2", pre_tokenizers.ByteLevel(add_prefix_space=False)),
        (
            "smollm",
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            ),
        ),
        (
            "llama-bpe",
            isolating(
                (
                    KNOWN[2]
                    .expressions[0]
                    .replace("(?i:'s|'t", "(?:'[sS]|'[tT]")
                    .replace("'d)", "'[dD])")
                    .replace("'re|'ve|'m|'ll", "'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]"),
                )
            ),
        ),
    ],
)
def test_a_pretokenizer_is_known_by_what_it_does(name: str, section: Any) -> None:
    assert find_pretokenizer(json.loads(section.__getstate__()), name == "llama-bpe").name == name


def test_unknown_pretokenizer_is_refused_with_what_it_does(tmp_path: Path) -> None:
    source = trained_checkpoint(tmp_path / "source", isolating((r"\w+|\W+",)))
    with pytest.raises(
        UnsupportedModel,
        match=r"No supported pre-tokenizer of llama.cpp splits .* into \['The', .*w\+\|",
    ):
        convert_f16(source, tmp_path)


def wordpiece_checkpoint(directory: Path, *, lowercase: bool) -> Path:
    """A random model with a WordPiece trained on the sample,
    as BERT's tokenizer.json has it.
    """
    tokenizer = BertWordPieceTokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(SAMPLE * 3, vocab_size=900, show_progress=False)
    write_checkpoint(directory, Shape(vocab=tokenizer.get_vocab_size()))
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    return directory


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_tokenizes_as_hugging_face(tmp_path: Path, lowercase: bool) -> None:
    source = wordpiece_checkpoint(tmp_path / "source", lowercase=lowercase)
    deviations = [Deviation.ACCENTS_AS_MARKS] if lowercase else []
    texts = [comparable(text, deviations) for text in SAMPLE]
    assert_same_tokens(source, tmp_path, [*texts, "unaffable [MASK] words[SEP]"])


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocab_txt_means_what_the_tokenizer_json_says(tmp_path: Path, lowercase: bool) -> None:
    source = wordpiece_checkpoint(tmp_path / "source", lowercase=lowercase)
    vocab = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    from_json = convert_f16(source, tmp_path / "json").read_bytes()
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)) + "\n")
    assert convert_f16(source, tmp_path / "txt").read_bytes() == from_json


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_place_of_chat_templates(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    templates = [
        {"name": "default", "template": "config"},
        {"name": "tool_use", "template": "tools"},
    ]
    change_json(source / "tokenizer_config.json", chat_template=templates)
    model = convert_f16(source, tmp_path)
    assert llama_tools.describe(model)["chat_template"] == "config"
    fields = GGUFReader(model).fields
    assert fields["tokenizer.chat_template.tool_use"].contents() == "tools"
    assert fields["tokenizer.chat_templates"].contents() == ["tool_use"]
    (source / "chat_template.json").write_text(json.dumps({"chat_template": "processor's"}))
    assert llama_tools.describe(convert_f16(source, tmp_path))["chat_template"] == "processor's"
    (source / "chat_template.jinja").write_text("newest")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "rag.jinja").write_text("documents")
    fields = GGUFReader(convert_f16(source, tmp_path)).fields
    assert fields["tokenizer.chat_template"].contents() == "newest"
    assert fields["tokenizer.chat_template.rag"].contents() == "documents"


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=200))
    with pytest.raises(DamagedCheckpoint, match="vocab_size of 200"):
        convert_f16(source, tmp_path)


def test_rows_without_a_token_are_filled_up(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=300))
    assert llama_tools.describe(convert_f16(source, tmp_path))["num_tokens"] == 300


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizes text"),
        (
            {"pre_tokenizer": {"type": "Whitespace"}},
            "neither a byte-level pre-tokenizer nor byte_fallback",
        ),
        ({"model": {"type": "Unigram", "vocab": []}}, "of type Unigram"),
        ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
    ],
)
def test_what_llama_cpp_would_do_differently_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    change_json(source / "tokenizer.json", **changes)
    with pytest.raises(UnsupportedModel, match=reason):
        convert_f16(source, tmp_path)
