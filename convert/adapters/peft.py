"""A LoRA adapter as PEFT saves it: its settings, and its pairs of matrices.

Knows no model family and no GGUF.

Of each adapted module there are A, [rank, in], and B, [out, rank]; it adds B A times a
scale to the module's weight (https://huggingface.co/docs/peft).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from convert.adapters.expert_parameters import (
    DOWN,
    GATE_UP,
    adapted_parameter,
    own_module,
    pairs_of_experts,
    projections,
)
from convert.architectures.wrappers import own_name
from convert.config import Config, read_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import SafetensorsFile, StoredTensor, unreadable

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PICKLED_FILE = "adapter_model.bin"

# Settings that say nothing of what the adapter computes, or that are read below.
_READ = frozenset(
    (
        *("peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision"),
        *("auto_mapping", "inference_mode", "lora_dropout", "init_lora_weights", "bias"),
        *("eva_config",),  # where A began
        # that a weight lies on its side, which its model tells; PEFT sets it by the last module
        *("fan_in_fan_out",),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
    )
)
# What others of PEFT's settings make of it, in words.
_OTHER_KINDS = {
    "use_dora": "DoRA, which also changes the length of each row",
    "modules_to_save": "whole modules that were trained beside it",
    "trainable_token_indices": "tokens whose embeddings were trained beside it",
    "lora_bias": "biases",
    "layer_replication": "layers that are there several times",
    "target_parameters": "matrices that are no modules of their own",
    "alora_invocation_tokens": "an activation by tokens (aLoRA)",
}
_PARAMETERS = "target_parameters"
# Settings that have a value always, and a meaning only beside another one.
_ONLY_BESIDE = {"megatron_core": "megatron_config", "qalora_group_size": "use_qalora"}
# These change the model's own weights before the training begins.
_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Where PEFT saves a whole embedding or head beside the pairs, for it might be another one.
_WHOLE = re.compile(r"(.+?)(\.base_layer)?\.weight")
_PAIR = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B)(\.weight)?")


@dataclass(frozen=True, kw_only=True)
class LoraPair:
    """What is added to one weight: `scale` times B A, or of an embedding, [tokens, hidden],
    that transposed.
    """

    weight: str  # the name of what it is added to
    a: StoredTensor  # [rank, in]; of an embedding [rank, tokens]
    b: StoredTensor  # [out, rank]; of an embedding [hidden, rank]
    scale: float
    is_embedding: bool

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def weight_shape(self) -> tuple[int, int]:
        rows, columns = self.b.shape[0], self.a.shape[1]
        return (columns, rows) if self.is_embedding else (rows, columns)


class PeftAdapter:
    """An adapter's folder; use it as a context manager.

    Raises `BadInput` of some kind for a folder that is none, is damaged, or holds more
    than plain LoRA.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / CONFIG_FILE
        if not path.is_file():
            raise MissingFile(
                f"{directory} is no adapter: it has no {CONFIG_FILE}. Pass the folder that PEFT "
                "saved the adapter to."
            )
        self.config = Config(str(path), read_json(path))
        _check_kind(self.config)
        self._file = SafetensorsFile(_weights_file(directory))
        self.beyond: list[str] = []  # weights of experts that the model must not have
        # by the same names as `pairs`: only good where they are the model's own
        self.whole_weights: dict[str, StoredTensor] = {}
        try:
            self.pairs = self._read_pairs()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PeftAdapter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def _read_pairs(self) -> dict[str, LoraPair]:
        """By the name of the weight that each is added to, as the model's own checkpoint
        names it.
        """
        halves: dict[str, dict[str, StoredTensor]] = {}
        for name, tensor in self._file.tensors.items():
            match = _PAIR.fullmatch(name)
            whole = _WHOLE.fullmatch(name)
            if match is None and whole is None:
                raise self.holds_more(name)
            if not tensor.stored_type.holds_weights:
                raise unreadable(self._file.path, name, tensor.stored_type.value)
            if match is None:
                assert whole is not None
                self.whole_weights[f"{own_name(whole[1])}.weight"] = tensor
                continue
            halves.setdefault(match[1], {})[match[2]] = tensor
        if not halves:
            raise DamagedCheckpoint(f"{self._file.path} contains no tensor.")
        pairs = [pair for module, found in halves.items() for pair in self._pairs_of(module, found)]
        return {pair.weight: pair for pair in pairs}

    def holds_more(self, name: str) -> UnsupportedModel:
        """That `name`, a tensor, is in it."""
        return UnsupportedModel(
            f"{self._file.path} contains {name}, which is no part of a plain LoRA adapter "
            "(lora_A and lora_B) and not the base model's own. Merge it (peft: "
            "merge_and_unload, then save_pretrained) and convert the result."
        )

    def _pairs_of(self, module: str, found: Mapping[str, StoredTensor]) -> list[LoraPair]:
        is_embedding = "lora_embedding_A" in found
        names = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A", "lora_B")
        if set(found) != set(names):
            raise DamagedCheckpoint(
                f"{self._file.path} contains of {module} only {', '.join(found)}: A and B belong "
                "together. Save the adapter again."
            )
        a, b = (found[name] for name in names)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
            raise DamagedCheckpoint(
                f"{self._file.path}: A and B of {module} have the shapes {list(a.shape)} and "
                f"{list(b.shape)}, whose product is none."
            )
        own = own_name(module)
        parameter = adapted_parameter(own, self.config.values.get(_PARAMETERS) or ())
        if parameter is not None:
            return self._pairs_of_experts(own_module(own), parameter, a, b)
        rank = self._rank(own)
        if a.shape[0] != rank:
            raise DamagedCheckpoint(
                f"{self._file.path}: A of {module} has {a.shape[0]} rows, but {CONFIG_FILE} says "
                f"that its rank is {rank}."
            )
        return [
            LoraPair(
                weight=f"{own}.weight",
                a=a,
                b=b,
                scale=self._scale(own, rank),
                is_embedding=is_embedding,
            )
        ]

    def _pairs_of_experts(
        self, module: str, parameter: str, a: StoredTensor, b: StoredTensor
    ) -> list[LoraPair]:
        rank = self._rank(f"{module}.{parameter}")
        if a.shape[0] % rank or (parameter == GATE_UP and b.shape[0] % 2):
            raise DamagedCheckpoint(
                f"{self._file.path}: A and B of {module}.{parameter} have the shapes "
                f"{list(a.shape)} and {list(b.shape)}, which do not fit experts of rank {rank}, "
                f"as {CONFIG_FILE} has it."
            )
        scale = self._scale(f"{module}.{parameter}", rank)
        self.beyond += [
            f"{module}.{a.shape[0] // rank}.{name}.weight" for name in projections(parameter)
        ]
        return [
            LoraPair(weight=weight, a=own_a, b=own_b, scale=scale, is_embedding=False)
            for weight, own_a, own_b in pairs_of_experts(module, parameter, a, b, rank)
        ]

    def _rank(self, module: str) -> int:
        rank = int(_by_pattern(self.config, "rank_pattern", module, self.config.integer("r")))
        if rank < 1:
            raise DamagedCheckpoint(f"{self.config.path}: the rank of {module} is {rank}.")
        return rank

    def _scale(self, module: str, rank: int) -> float:
        alpha = _by_pattern(self.config, "alpha_pattern", module, self.config.number("lora_alpha"))
        if not (math.isfinite(alpha) and alpha > 0):
            raise UnsupportedModel(
                f"{self.config.path}: the alpha of {module} must be above 0 (got {alpha})."
            )
        return alpha / (math.sqrt(rank) if self.config.flag("use_rslora", False) else rank)


def _weights_file(directory: Path) -> Path:
    if not (directory / WEIGHTS_FILE).exists() and (directory / _PICKLED_FILE).exists():
        raise UnsupportedModel(
            f"{directory} has its weights only as {_PICKLED_FILE}, which runs code when it is "
            "read. Save the adapter again as safetensors (peft: save_pretrained with "
            "safe_serialization=True)."
        )
    return directory / WEIGHTS_FILE


def _check_kind(config: Config) -> None:
    """Raises `UnsupportedModel` for whatever is not plain LoRA."""
    kind = config.text("peft_type", "LORA").upper()
    if kind != "LORA":
        raise UnsupportedModel(
            f"{config.path} describes an adapter of kind {kind}; only LORA can be converted. "
            "Merge it (peft: merge_and_unload, then save_pretrained) and convert the result."
        )
    bias = config.text("bias", "none")
    if bias != "none":
        raise _is_more(config, "bias", bias, "biases")
    init = config.values.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CHANGING_INITS):
        raise _is_more(config, "init_lora_weights", init, "a change of the model's own weights")
    for key, value in config.values.items():
        if key == _PARAMETERS and _are_known_parameters(value):
            continue
        if key not in _READ and _says_something(config.values.get(_ONLY_BESIDE.get(key, key))):
            raise _is_more(config, key, value, _OTHER_KINDS.get(key, "what is not known here"))


def _are_known_parameters(targets: Any) -> bool:
    """Whether they are experts' of one layer, or weights of modules, which make plain pairs."""
    return isinstance(targets, list) and all(
        isinstance(name, str) and name.rpartition(".")[2] in (GATE_UP, DOWN, "weight")
        for name in targets
    )


def _says_something(value: Any) -> bool:
    return value not in (None, False, "", 0) and value not in ([], {})


def _is_more(config: Config, key: str, value: Any, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{config.path} has {key} = {str(value)[:80]}: the adapter holds {what}, and only plain "
        "LoRA can be converted. Merge it (peft: merge_and_unload, then save_pretrained) and "
        "convert the result."
    )


def _by_pattern(config: Config, key: str, module: str, usual: float) -> float:
    """A setting that single modules may have of their own: by the first expression that
    ends their name, as PEFT looks for it.
    """
    patterns = config.values.get(key) or {}
    if not isinstance(patterns, dict):
        raise DamagedCheckpoint(f"{config.path}: {key} is not an object.")
    for pattern, value in patterns.items():
        try:
            is_meant = re.match(rf"(.*\.)?({pattern})$", module) is not None
        except re.error as error:
            raise DamagedCheckpoint(
                f"{config.path}: {key} has {pattern!r}, which is no regular expression: {error}."
            ) from error
        if is_meant:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DamagedCheckpoint(f"{config.path}: {key} of {pattern!r} is not a number.")
            return float(value)
    return usual
