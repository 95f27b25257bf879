"""What a `WorkerConfig` means to the engine, to llama.cpp, to kept files and to people.

Loads nothing.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.drafting.prompt_lookup import PromptLookup
from appliance.engine.embedding import EmbeddingQueue, Encoder
from appliance.engine.limits import Limits
from appliance.llama import library
from appliance.llama.context import ContextConfig
from appliance.llama.draft import DraftModel
from appliance.llama.embedding import EmbeddingConfig
from appliance.llama.gpu import GpuLayers
from appliance.llama.kernels import loading as kernels
from appliance.llama.memory_kind import MemoryKind
from appliance.llama.model import Model
from appliance.llama.own_heads import OwnHeads
from appliance.protocol.kept_states import keeps_earlier_states
from appliance.protocol.measured_node import NodeDescription
from appliance.protocol.model_info import ModelInfo
from appliance.worker.child.prefix_files import PrefixFiles, fingerprint
from appliance.worker.child.step_times import StepTimes, machine_name
from appliance.worker.config import DraftConfig, WorkerConfig

# --- for the engine -------------------------------------------------------------------


def limits(config: WorkerConfig) -> Limits:
    return Limits(
        ctx=config.ctx,
        max_waiting_tokens=config.max_waiting_tokens,
        max_stall_ms=config.max_stall_ms,
        max_row_cells=config.max_row_cells,
        adapter_turn_ms=config.adapter_turn_ms,
    )


def keep_policy(config: WorkerConfig) -> KeepPolicy:
    return KeepPolicy(
        max_cells=config.resident_prefix_cells,
        ttl_s=config.prefix_ttl_s,
        max_host_bytes=config.prefix_host_bytes,
        max_slowdown=config.max_prefix_slowdown,
    )


def embedding_queue(config: WorkerConfig, encoder: Encoder) -> EmbeddingQueue:
    return EmbeddingQueue(
        encoder, fill_rows=config.sizes.max_rows, max_waiting_tokens=config.max_waiting_tokens
    )


# --- for llama.cpp --------------------------------------------------------------------


def gpu_layers(config: WorkerConfig) -> GpuLayers:
    offload = config.offload
    return GpuLayers(
        num_layers=offload.gpu_layers,
        devices=offload.devices,
        split_mode=offload.split_mode.value,
        tensor_split=offload.tensor_split,
        main_gpu=offload.main_gpu,
    )


def context_config(config: WorkerConfig) -> ContextConfig:
    offload = config.offload
    return ContextConfig(
        sizes=config.sizes, offload_kv=offload.kv_on_gpu, offload_ops=offload.gpu_layers > 0
    )


def draft_context_config(draft: DraftConfig, target: ContextConfig) -> ContextConfig:
    """A draft model is small: it stays on the CPU,
    with its cells as they are computed.
    """
    sizes = target.sizes
    return ContextConfig(
        sizes=replace(
            sizes,
            kv_cells=draft.kv_cells,
            max_rows=draft.max_rows,
            kv_type="f16",
            ubatch_rows=min(sizes.ubatch_rows, draft.max_rows),
            max_draft_rows=0,
            rollback_states=0,
        )
    )


def embedding_config(config: WorkerConfig) -> EmbeddingConfig:
    return EmbeddingConfig(
        max_rows=config.ctx,
        threads=config.sizes.batch_threads,
        flash_attention=config.sizes.flash_attention,
        offload_ops=config.offload.gpu_layers > 0,
    )


# --- for the files kept between runs --------------------------------------------------


def step_times(config: WorkerConfig) -> StepTimes:
    sizes = config.sizes
    parts = (
        *_attention(config),
        _build(),
        "extra buffers" if config.use_extra_bufts else "plain",
        f"{sizes.threads}/{sizes.batch_threads} threads, {sizes.ubatch_rows} rows",
        machine_name(),
        *_on_gpus(config),
    )
    folder = Path(config.step_times_dir) if config.step_times_dir else None
    path = Path(config.model_path)
    node = NodeDescription(
        model=path.stem,
        machine=machine_name(),
        ctx=config.ctx,
        slots=sizes.slots,
        kv_cells=sizes.kv_cells,
        max_rows=sizes.max_rows,
        kept_cells=config.resident_prefix_cells,
        kept_s=config.prefix_ttl_s,
        max_stall_ms=config.max_stall_ms,
        max_kept_slowdown=config.max_prefix_slowdown,
        host_bytes=config.prefix_host_bytes,
        threads=max(sizes.threads, sizes.batch_threads),
        kv_type=sizes.kv_type,
        memory=config.memory,
    )
    return StepTimes(folder, fingerprint(path, *parts), node)


def prefix_files(config: WorkerConfig) -> PrefixFiles | None:
    """None where none are kept."""
    if config.prefix_disk_bytes <= 0 or config.prefix_host_bytes <= 0:
        return None
    name = fingerprint(Path(config.model_path), *_attention(config), _build())
    return PrefixFiles(
        Path(config.prefix_dir), name, config.prefix_disk_bytes, ttl_s=config.prefix_disk_ttl_s
    )


def _attention(config: WorkerConfig) -> tuple[str, str]:
    """What decides how cells are laid out."""
    return config.sizes.kv_type, "flash attention" if config.sizes.flash_attention else "scores"


def _build() -> str:
    """What computes: saved cells and times mean something to it only."""
    return f"{library.fingerprint()} kernels: {kernels.identity()}"


def _on_gpus(config: WorkerConfig) -> tuple[str, ...]:
    """What decides how fast GPUs are; nothing where there are none, so that what was
    learned without stays known.
    """
    offload = config.offload
    if offload.gpu_layers == 0:
        return ()
    split = ",".join(
        f"{device}={part:g}"
        for device, part in zip(offload.devices, offload.tensor_split, strict=True)
    )
    return (
        f"{offload.gpu_layers} GPU layers",
        offload.split_mode.value,
        split,
        f"KV on GPU: {offload.kv_on_gpu}",
    )


def answer_fingerprint(
    config: WorkerConfig, template: str = "", adapters: tuple[str, ...] = ()
) -> str:
    """Names all that an answer follows from besides its request; `template` is the source
    of the chat template, and `adapters` are what each name stands for.
    """
    sizes = config.sizes
    parts = (
        *_attention(config),
        _build(),
        version("appliance"),
        "extra buffers" if config.use_extra_bufts else "plain",
        f"{sizes.threads}/{sizes.batch_threads} threads, {sizes.ubatch_rows} rows",
        f"context {config.ctx}, tools {config.tools}",
        machine_name(),
        template,
        *adapters,
        *_on_gpus(config),
    )
    return fingerprint(Path(config.model_path), *parts)


# --- for people -----------------------------------------------------------------------


def model_info(config: WorkerConfig, model: Model) -> ModelInfo:
    """What is the same for each kind of model; the rest is empty."""
    return ModelInfo(
        name=model.metadata("general.name") or Path(config.model_path).stem,
        quantization=model.quantization,
        num_params=model.num_params,
        num_vocab=model.num_vocab,
        ctx=config.ctx,
        train_ctx=model.train_ctx,
        slots=config.sizes.slots,
        max_waiting_tokens=config.max_waiting_tokens,
        kv_cells=0,
        kv_type="" if config.embeds else config.sizes.kv_type,
        has_chat_template=False,
        system_info=library.system_info(),
        gpu_layers=config.offload.gpu_layers,
        gpu_bytes=library.buffers.on(config.offload.devices),
    )


def speculation(
    config: WorkerConfig, *, memory: MemoryKind, architecture: str, has_draft: bool
) -> str:
    """Who drafts, or why nobody does."""
    drafters = [PromptLookup.name] if config.prompt_lookup else []
    if has_draft and config.draft is not None:
        is_own, path = config.draft.is_own, Path(config.draft.model_path)
        drafters.append(OwnHeads.name if is_own else f"{DraftModel.name} {path.stem}")
    if not drafters and config.draft is None:
        return "off"
    if memory.has_state and not keeps_earlier_states(architecture):
        return (
            f"off: of {architecture} models llama.cpp keeps no earlier states to go back to when "
            "a drafted token is rejected"
        )
    if not config.sizes.max_draft_rows or (memory.has_state and not config.sizes.rollback_states):
        return "off: there is not enough memory for it"
    return " and ".join(drafters) or "off: the draft model cannot be used; the log says why"
