"""What a model is made for: writing text, making embeddings, or ranking documents.

Knows no tensors. Read from what sentence-transformers saves beside a model, and from its
model card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gguf import PoolingType

from convert.architectures.encoders.xlm_roberta import XLM_ROBERTA_RANKER
from convert.architectures.family import Family
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import Field, boolean, string, u32
from convert.heads.dense import FAMILIES as WITH_DENSE
from convert.heads.dense import DenseLayer, read_dense
from convert.heads.ranking import JUDGE, Ranking
from convert.heads.sentence_transformers import (
    Prompts,
    not_computed,
    read_modules,
    read_prompts,
)
from convert.source.card import ModelCard
from convert.source.folder import folder_name

_RANKS = ("qwen3",)  # families whose graph in llama.cpp has the head for it
_ENCODERS = (
    "bert",
    "nomic-bert",
    "jina-bert-v2",
    "modern-bert",
)  # make embeddings and nothing else
# the names that publishers give to the prompts of queries and documents
_ROLE_NAMES = {
    "query": ("query", "search_query", "retrieval.query", "Retrieval-query"),
    "document": ("document", "passage", "search_document", "retrieval.passage", "corpus"),
}
_RERANKER = re.compile(r"qwen3-reranker", re.IGNORECASE)
_RERANKER_TAG = "text-ranking"


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What is to be made of a model's last layer; text where neither is there."""

    pooling: PoolingType | None = None
    ranks: bool = False  # by the tokens `yes` and `no`, or by those of `ranking`
    ranking: Ranking | None = None
    fields: tuple[Field, ...] = ()
    dense: tuple[DenseLayer, ...] = ()  # what is after pooling
    notes: tuple[str, ...] = ()

    def ranking_by(self, ids: Mapping[str, int]) -> Ranking | None:
        """`ids` are tokens by their texts; None for a vocabulary without the two."""
        if self.ranking is not None:
            return self.ranking
        yes, no = ids.get("yes"), ids.get("no")
        return None if yes is None or no is None else Ranking(yes, no)


def find_purpose(directory: Path, family: Family, config: Config, card: ModelCard) -> Purpose:
    """Raises `UnsupportedModel` for what llama.cpp would compute otherwise, and for a
    model without a head that is not pooled either; `DamagedCheckpoint`, `MissingFile`.
    """
    modules = read_modules(directory)
    is_reranker = _is_reranker(directory, config, card)
    scores = modules.scores
    if scores is not None and not (family.name in _RANKS and is_reranker):
        raise UnsupportedModel(
            f"{directory} is a reranker of a kind that llama.cpp does not compute: only "
            "Qwen3-Reranker's head and prompt are known."
        )
    if modules.dense and family.name not in WITH_DENSE:
        raise not_computed(directory, "Dense")
    if modules.pooling is not None:
        purpose = _pooled(directory, family, config, modules.pooling)
        return replace(purpose, dense=read_dense(directory, modules.dense))
    _check_writes(directory, family, config)
    if is_reranker and family.name in _RANKS:
        ranking = None if scores is None else Ranking(*scores)
        return Purpose(ranks=True, ranking=ranking)
    if family.name in _ENCODERS and family is not XLM_ROBERTA_RANKER:
        return Purpose(notes=(_NO_POOLING,))
    if is_reranker or _RERANKER_TAG in card.values("pipeline_tag"):
        return Purpose(notes=(_NO_RANKING,))
    return Purpose()


_NO_POOLING = (
    "Nothing says how the embeddings of this encoder are pooled: modules.json and "
    "1_Pooling/config.json of its repository are missing. The appliance takes the mean of its "
    "tokens. If it was trained otherwise (BGE takes the first token), download both and convert "
    "again."
)
_NO_RANKING = (
    "The model card says that this is a reranker, but its prompt is not known here: the file "
    "writes text and does not rank documents."
)


def _pooled(directory: Path, family: Family, config: Config, pooling: PoolingType) -> Purpose:
    fields = [u32(f"{family.name}.pooling_type", pooling.value)]
    if family.name not in _ENCODERS and not config.flag("is_causal", True):
        fields.append(boolean(f"{family.name}.attention.causal", False))
    prompts = read_prompts(directory)
    fields += _prompt_fields(prompts)
    return Purpose(pooling=pooling, fields=tuple(fields), notes=tuple(_notes_on_prompts(prompts)))


def _check_writes(directory: Path, family: Family, config: Config) -> None:
    if family.name in _ENCODERS:
        return
    if any(name in family.headless for name in config.architectures):
        raise UnsupportedModel(
            f"{config.path} names {config.architectures[0]}, a model without a head: it writes no "
            "text. If it makes embeddings, modules.json and 1_Pooling/config.json of its "
            f"repository are missing in {directory}."
        )
    if not config.flag("is_causal", True):
        raise UnsupportedModel(
            f"{config.path} has is_causal = false: the model reads in both directions and writes "
            "no text. If it makes embeddings, modules.json and 1_Pooling/config.json of its "
            f"repository are missing in {directory}."
        )


def _prompt_fields(prompts: Prompts) -> Iterator[Field]:
    """The prompts of queries and documents, which this project's server adds when it is told
    what a text is (`input_type`).
    """
    for role, names in _ROLE_NAMES.items():
        text = next((prompts.texts[name] for name in names if name in prompts.texts), "")
        if text:
            yield string(f"sentence_transformers.prompt.{role}", text)


def _notes_on_prompts(prompts: Prompts) -> Iterator[str]:
    """What sentence-transformers puts in front of texts, which nobody else does."""
    named = {name: text for name, text in prompts.texts.items() if text}
    if not named:
        return
    shown = ", ".join(f"{name} = {text!r}" for name, text in named.items())
    by_default = prompts.default in named
    yield (
        f"The model was trained with a prompt in front of its texts: {shown}. "
        + (f"sentence-transformers adds {prompts.default!r} to every text. " if by_default else "")
        + "`appliance serve` adds a query's or a document's where a request says what it is "
        "(input_type); write others in front of texts yourself."
    )


def _is_reranker(directory: Path, config: Config, card: ModelCard) -> bool:
    names = [folder_name(directory), str(config.values.get("_name_or_path")), *card.titles]
    return any(_RERANKER.search(name) for name in names) or JUDGE in card.text
