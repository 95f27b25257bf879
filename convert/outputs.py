"""One GGUF, in one file or several, before and while it is written:
its first bytes, and where every tensor lies.

Knows no rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from gguf import GGMLQuantizationType, LlamaFileType

from convert.architectures import find_family
from convert.architectures.decoder import without_head
from convert.architectures.family import Change, Hyperparameters, read_model
from convert.architectures.seeing import with_text
from convert.checkpoint import Checkpoint
from convert.gguf.block_scales import with_block_scales
from convert.gguf.cut import PlannedFile, cut, plan_file
from convert.gguf.header import Field, encode_header, lay_out
from convert.heads.dense import WEIGHTS_FILE, dense_fields, dense_tensor
from convert.heads.purpose import Purpose, find_purpose
from convert.heads.ranking import TEMPLATE, TEMPLATE_NAME, ranking_fields, with_ranking
from convert.heads.sentence_transformers import lowers_texts
from convert.importance.imatrix_file import ImportanceMatrix
from convert.metadata import card_fields, general_fields, importance_fields
from convert.recipe import ModelShape, file_types
from convert.source.card import ModelCard, read_card
from convert.tensors import OutputTensor
from convert.tokenizer.vocab import Vocabulary, load_vocabulary
from convert.writer import OutputFile


@dataclass(frozen=True)
class Importance:
    """An importance matrix and the name of the file that holds it."""

    matrix: ImportanceMatrix
    file_name: str


@dataclass(frozen=True, kw_only=True)
class SourceModel:
    """What is known of a checkpoint before its first weight is read."""

    hyper: Hyperparameters
    shape: ModelShape
    tensors: Sequence[OutputTensor]
    vocabulary: Vocabulary
    name: str
    card: ModelCard
    notes: tuple[str, ...]  # sentences for the user on what became different from the checkpoint

    @property
    def train_ctx(self) -> int:
        """The longest text in tokens that the model was made for."""
        key = f"{self.shape.architecture}.context_length"
        (length,) = (field.value for field in self.hyper.fields if field.key == key)
        assert isinstance(length, int)
        return length

    @property
    def stored_type(self) -> str:
        """The type that most of the weights are stored in."""
        items: dict[str, int] = {}
        for tensor in self.tensors:
            type_name = tensor.source.stored_type.value
            items[type_name] = items.get(type_name, 0) + tensor.num_items
        return max(items, key=lambda type_name: items[type_name])


def read_source(
    checkpoint: Checkpoint,
    directory: Path,
    name: str,
    change: Change | None = None,
    *,
    drafts: bool = False,
) -> SourceModel:
    """`drafts` is as `read_model` takes it. Raises `BadInput` for whatever is wrong with
    the checkpoint's description, names or shapes.
    """
    family, card = find_family(checkpoint.config), read_card(directory)
    purpose = find_purpose(directory, family, checkpoint.config, card)
    if purpose.pooling is not None:
        family = without_head(family)
    hyper, tensors = read_model(
        family, checkpoint.config, checkpoint.tensors, change, drafts=drafts
    )
    shape = ModelShape(
        architecture=family.name,
        num_layers=hyper.num_layers,
        num_heads=hyper.num_heads,
        num_kv_heads=hyper.num_kv_heads,
        num_experts=hyper.num_experts,
    )
    dense = purpose.dense
    after = dense_fields(family.name, dense, hyper.sizes["hidden"])
    files = [checkpoint.open_beside(f"{layer.folder}/{WEIGHTS_FILE}") for layer in dense]
    tensors += map(dense_tensor, range(len(dense)), dense, files)
    vocabulary = load_vocabulary(directory, with_text(checkpoint.config), hyper.sizes["vocab"])
    source = SourceModel(
        hyper=replace(hyper, fields=(*hyper.fields, *purpose.fields, *after)),
        shape=shape,
        tensors=with_block_scales(family.name, tensors),
        vocabulary=vocabulary,
        name=vocabulary.model_name(name),
        card=card,
        notes=(
            *checkpoint.notes,
            *hyper.notes,
            *purpose.notes,
            *_notes_on_training(name),
            *_notes_on_case(directory, vocabulary),
            *vocabulary.notes,
        ),
    )
    return _as_reranker(source, purpose) if purpose.ranks else source


def _notes_on_training(name: str) -> tuple[str, ...]:
    """Of a model that was trained to be rounded, as its publisher's name of it says."""
    if re.search(r"qat[-_.]?(?:int4|q4_0)", name, re.IGNORECASE) is None:
        return ()
    return (
        "By its name, this model was trained to be rounded to 4 bits (QAT): of the small types, "
        "Q4_0 is the one that it was made for.",
    )


def _notes_on_case(directory: Path, vocabulary: Vocabulary) -> tuple[str, ...]:
    if not lowers_texts(directory) or vocabulary.lowers_texts:
        return ()
    return (
        "sentence-transformers writes texts in small letters before it embeds them "
        "(do_lower_case in sentence_bert_config.json). Nobody else does: do so yourself.",
    )


def _as_reranker(source: SourceModel, purpose: Purpose) -> SourceModel:
    """`source` with a head that ranks; as it is, with a note, where its vocabulary has
    not the tokens for that.
    """
    vocabulary = source.vocabulary
    ranking = purpose.ranking_by({token.text: i for i, token in enumerate(vocabulary.tokens)})
    if ranking is None or max(ranking.yes, ranking.no) >= len(vocabulary.tokens):
        note = (
            "This is a reranker, but its vocabulary has not both of the tokens 'yes' and 'no': the "
            "file writes text and does not rank documents."
        )
        return replace(source, notes=(*source.notes, note))
    templates = {**vocabulary.chat_templates, TEMPLATE_NAME: TEMPLATE}
    fields = (*source.hyper.fields, *ranking_fields(source.shape.architecture))
    return replace(
        source,
        hyper=replace(source.hyper, fields=fields),
        tensors=with_ranking(source.tensors, ranking),
        vocabulary=replace(vocabulary, chat_templates=templates),
    )


@dataclass(frozen=True)
class OutputPlan:
    """One output before it is written: a GGUF, or the parts of one."""

    path: Path  # if it were one file
    type: str
    files: tuple[PlannedFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where every tensor lies, by its name."""
        return {
            slot.name: Place(index, len(file.header) + slot.offset, slot.type)
            for index, file in enumerate(self.files)
            for slot in file.slots.values()
        }


@dataclass(frozen=True)
class Place:
    """Where a tensor's data begin."""

    file: int  # of the output's files
    offset: int  # in bytes from the beginning of that file
    type: GGMLQuantizationType


def plan_output(
    source: SourceModel,
    path: Path,
    type_name: str,
    importance: Importance | None,
    max_file_bytes: int | None = None,
) -> OutputPlan:
    """Raises `BadInput` where it cannot be cut into files of `max_file_bytes`."""
    made = file_types(
        type_name, source.tensors, source.shape, has_importance=importance is not None
    )
    slots = lay_out(
        (tensor.name, tensor.shape, made.types[tensor.name])
        for tensor in source.tensors
        if tensor.name in made.types
    )
    fields = _fields(source, made.file_type)
    if importance is not None and made.is_quantized:
        fields += importance_fields(importance.matrix, importance.file_name)
    file = plan_file(path, fields, slots)
    files = (file,) if max_file_bytes is None else cut(file, fields, max_file_bytes)
    return OutputPlan(path, type_name, files)


def header_without_tensors(source: SourceModel, type_name: str) -> bytes:
    """A whole GGUF that only has a vocabulary, as all files of `source` have it."""
    made = file_types(type_name, source.tensors, source.shape)
    return encode_header(_fields(source, made.file_type), [])


def _fields(source: SourceModel, file_type: LlamaFileType) -> list[Field]:
    return [
        *general_fields(source.shape.architecture, source.name, file_type, source.tensors),
        *card_fields(source.card),
        *source.hyper.fields,
        *source.vocabulary.fields(),
    ]


@dataclass(frozen=True)
class OpenOutput:
    """A GGUF, or the parts of one, that are being written."""

    plan: OutputPlan
    files: tuple[OutputFile, ...]

    def write(self, tensor: str, offset: int, data: memoryview) -> None:
        """Puts `data` at `offset` bytes into a tensor that it has; thread-safe.

        Raises `NotEnoughDisk` if the disk filled up meanwhile.
        """
        place = self.plan.places[tensor]
        self.files[place.file].write(data, place.offset + offset)

    def sync(self) -> None:
        for file in self.files:
            file.sync()

    def commit(self) -> None:
        """Gives the synced files their names; the caller then syncs the directory.

        The first part comes last, for it stands for the model: until then none is there.
        """
        first, *others = self.files
        if others:
            first.path.unlink(missing_ok=True)
        for file in (*others, first):
            file.commit()

    def discard(self) -> None:
        for file in self.files:
            file.discard()

    def keep(self) -> None:
        """Leaves what was opened with a `resume_key` for whoever goes on."""
        for file in self.files:
            file.keep()

    @property
    def was_there(self) -> bool:
        """Whether all files were there already, with their size."""
        return all(file.was_there for file in self.files)


def open_output(plan: OutputPlan, resume_key: str | None = None) -> OpenOutput:
    """Raises `BadInput` if there is no room or no permission; then nothing is left."""
    files: list[OutputFile] = []
    try:
        for planned in plan.files:
            files.append(OutputFile(planned.path, planned.num_bytes, resume_key))
            files[-1].write(planned.header, 0)
    except BaseException:
        for file in files:
            file.discard()
        raise
    return OpenOutput(plan, tuple(files))
