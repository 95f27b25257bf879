"""Loads what a worker computes with: model, context, draft model, encoder.

Knows no request and no thread.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.llama.adapters import Adapters
from appliance.llama.context import ContextConfig
from appliance.llama.draft import DraftModel, load_draft
from appliance.llama.embedding import EmbeddingContext
from appliance.llama.kernels.loading import use_kernels
from appliance.llama.model import Model
from appliance.llama.own_heads import OwnHeads
from appliance.llama.runner import LlamaRunner
from appliance.protocol.adapters import AdapterFile
from appliance.worker.child import translation
from appliance.worker.child.adapter_names import AdapterNames, LoadedAdapter
from appliance.worker.config import DraftConfig, WorkerConfig

_READ_BYTES = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextModel:
    """A loaded model that writes text."""

    model: Model
    runner: LlamaRunner
    draft: DraftModel | None
    adapters: AdapterNames


@dataclass(frozen=True)
class EmbeddingModel:
    """A loaded model that makes vectors, or scores."""

    model: Model
    encoder: EmbeddingContext


def load_text_model(config: WorkerConfig) -> TextModel:
    """Raises an `ApplianceError` that says why it cannot be loaded."""
    model, context = _load_model(config), translation.context_config(config)
    runner = LlamaRunner(model, context, Adapters(model, config.adapters))
    runner.warm_up()
    for number in runner.try_adapters():
        file = config.adapters[number]
        _log.warning("the %s %s changes nothing in this model", file.kind.words, file.name)
    adapters = AdapterNames([_named(file) for file in config.adapters])
    can_draft = runner.capabilities.max_draft_rows > 0
    if config.draft is None or not can_draft:
        return TextModel(model, runner, None, adapters)
    sizes = translation.draft_context_config(config.draft, context)
    draft = _load_draft(config, config.draft, sizes, runner, model)
    return TextModel(model, runner, draft, adapters)


def _named(file: AdapterFile) -> LoadedAdapter:
    with Path(file.path).open("rb") as content:
        digest = hashlib.sha256()
        while piece := content.read(_READ_BYTES):
            digest.update(piece)
    return LoadedAdapter(name=file.name, kind=file.kind, digest=digest.hexdigest())


def load_embedding_model(config: WorkerConfig) -> EmbeddingModel:
    """Raises an `ApplianceError` that says why it cannot be loaded."""
    model = _load_model(config)
    encoder = EmbeddingContext(model, translation.embedding_config(config))
    encoder.warm_up()
    return EmbeddingModel(model, encoder)


def _load_model(config: WorkerConfig) -> Model:
    use_kernels(config.kernels)
    model = Model(
        Path(config.model_path),
        use_extra_bufts=config.use_extra_bufts,
        use_mmap=config.use_mmap,
        with_heads=config.draft is not None and config.draft.is_own,
        gpu=translation.gpu_layers(config),
        tables=config.tables,
    )
    if model.splits_by_guess:
        _log.warning(
            "the file does not say how texts are split into words (tokenizer.ggml.pre), so they "
            "may be tokenized differently than in training; convert it again"
        )
    return model


def _load_draft(
    config: WorkerConfig,
    draft: DraftConfig,
    sizes: ContextConfig,
    runner: LlamaRunner,
    target: Model,
) -> DraftModel | None:
    """Raises `LoadFailed` if it cannot draft for `target`
    and is required; else there is none.
    """
    drafter: DraftModel
    try:
        if draft.is_own:
            drafter = runner.add_heads(OwnHeads, sizes)
            drafter.learn_curve()
            return drafter
        model = load_draft(
            Path(draft.model_path),
            target,
            use_extra_bufts=config.use_extra_bufts,
            use_mmap=config.use_mmap,
        )
        drafter = DraftModel(
            model,
            sizes,
            num_target_vocab=target.num_vocab,
            attention=runner.capabilities.attention,
        )
        drafter.learn_curve()
    except ApplianceError as error:
        if draft.is_required:
            raise
        _log.warning("the draft model is not used: %s", error)
        return None
    return drafter
