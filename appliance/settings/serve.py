"""The settings of `appliance serve` and, in part, `appliance fit`: names, limits, how they agree. Knows no source."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from appliance.errors import BadSettings
from appliance.settings import options as opt
from appliance.settings.options import Option

MODEL = "Model and memory"
GPU = "GPU"
SEVERAL = "Several models"
BATCH = "Batching and queue"
NETWORK = "Network"
PROCESS = "Process"

# The options that decide which file of a model is served, and where it is kept.
FIT_OPTIONS = (
    "model",
    "ctx",
    "kv_cells",
    "quant",
    "kv_type",
    "ram",
    "threads",
    "gpu_layers",
    "split_mode",
    "tensor_split",
    "main_gpu",
    "batch_threads",
    "ubatch_rows",
    "flash_attention",
    "mmap",
    "slots",
    "max_batch_rows",
    "models_dir",
    "state_dir",
)
MAX_SLOTS = 64
_MAX_TOKENS = 1 << 24
_ALL_LAYERS = 1 << 20  # more than any model has
SPLIT_MODES = ("layer", "row", "none")
KV_TYPES = ("f16", "q8_0", "q5_1", "q4_0")
_KV_TYPE = f"({'|'.join(KV_TYPES)})"


def home_directory(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "")
    if not home:
        raise BadSettings("HOME is not set, so the default directories are unknown: give --models-dir and --state-dir.")
    return Path(home)


def _xdg(environ: Mapping[str, str], variable: str, under_home: str) -> Path:
    """A base directory (https://specifications.freedesktop.org/basedir-spec): relative values are to be ignored."""
    base = environ.get(variable, "")
    return Path(base) if base.startswith("/") else home_directory(environ) / under_home


def _default_models_dir(environ: Mapping[str, str]) -> Path:
    return _xdg(environ, "XDG_DATA_HOME", ".local/share") / "appliance" / "models"


def _default_state_dir(environ: Mapping[str, str]) -> Path:
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "appliance"


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """One declaration per option: the field's name gives flag, TOML key and variable, `Option` the rest.

    Raises `BadSettings` where options contradict each other.
    """

    model: Annotated[
        tuple[str, ...],
        Option(
            help="The name of a known model, a .gguf file, a checkpoint directory (with config.json), or a repository "
            "on a hub: org/repo or org/repo:QUANT. Several may be served; the first answers requests that name none",
            parser=opt.path_or_name(),
            group=MODEL,
            metavar="MODEL",
            positional=True,
            many=True,
            automatic="the catalog's default model",
        ),
    ] = ()
    ctx: Annotated[
        int | None,
        Option(
            help="Longest request, prompt and answer together, in tokens",
            parser=opt.whole_number(64, _MAX_TOKENS, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="as far as the model was trained for, within what fits",
        ),
    ] = None
    kv_cells: Annotated[
        int | None,
        Option(
            help="Size of the KV cache that all requests share, in tokens; never less than --ctx",
            parser=opt.whole_number(64, _MAX_TOKENS, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="ctx x slots, within what fits",
        ),
    ] = None
    quant: Annotated[
        str | None,
        Option(
            help="Serve this quantization, such as Q4_K_M",
            parser=opt.pattern(r"[A-Za-z][A-Za-z0-9_]{1,15}", "a type's name such as Q8_0, Q4_K_M or Q2_K", upper=True),
            group=MODEL,
            metavar="TYPE",
            automatic="the best one that fits",
        ),
    ] = None
    kv_type: Annotated[
        str | None,
        Option(
            help="Number format of the KV cache: f16, q8_0, q5_1 or q4_0, or two of them as K/V, such as q8_0/q4_0",
            parser=opt.pattern(
                f"{_KV_TYPE}(/{_KV_TYPE})?",
                "f16, q8_0, q5_1 or q4_0, or two of them as K/V, such as q8_0/q4_0",
                near=KV_TYPES,
            ),
            group=MODEL,
            metavar="TYPE",
            automatic="f16 where it fits, else q8_0",
        ),
    ] = None
    ram: Annotated[
        int | None,
        Option(
            help="Memory that everything together may take; a size such as 6GiB",
            parser=opt.byte_count(),
            group=MODEL,
            metavar="SIZE",
            automatic="what the machine and its control groups have free now",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Option(
            help="Threads that compute steps of one answer, and everything else unless --batch-threads says otherwise",
            parser=opt.whole_number(1, 1024),
            group=MODEL,
            metavar="N",
            automatic="as measured here (`appliance tune`), else one for each performance core, within the CPU quota",
        ),
    ] = None
    gpu_layers: Annotated[
        int | None,
        Option(
            help="Layers to compute on GPUs, counted from the output layer back: a number, all, or 0 for none",
            parser=opt.layers(_ALL_LAYERS),
            group=GPU,
            metavar="N",
            automatic="as many as fit in the free memory of the GPUs there are",
        ),
    ] = None
    split_mode: Annotated[
        str,
        Option(
            help="How several GPUs share a model: whole layers each (layer), rows of every matrix (row, which few "
            "libraries can), or one GPU alone (none)",
            parser=opt.one_of(*SPLIT_MODES),
            group=GPU,
            metavar="MODE",
        ),
    ] = "layer"
    tensor_split: Annotated[
        tuple[float, ...],
        Option(
            help="A proportion for every GPU: how much of the model it gets, such as 3,1 (default: by free memory)",
            parser=opt.proportion(),
            group=GPU,
            metavar="N,N",
            many=True,
        ),
    ] = ()
    main_gpu: Annotated[
        int | None,
        Option(
            help="The one GPU of --split-mode none, counted from 0 as `appliance fit --device` lists them",
            parser=opt.whole_number(0, 63),
            group=GPU,
            metavar="N",
            automatic="the one with the most free memory",
        ),
    ] = None
    batch_threads: Annotated[
        int | None,
        Option(
            help="Threads that compute prompts and steps of several answers",
            parser=opt.whole_number(1, 1024),
            group=MODEL,
            metavar="N",
            automatic="as measured here (`appliance tune`), else as many as --threads",
        ),
    ] = None
    ubatch_rows: Annotated[
        int | None,
        Option(
            help="Most tokens of a step that are computed together, at most --max-batch-rows; fewer take less memory",
            parser=opt.whole_number(1, 8192, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="as measured here, else 128, or all on a GPU",
        ),
    ] = None
    flash_attention: Annotated[
        bool | None,
        Option(
            help="Compute attention with llama.cpp's flash attention: on or off. Quantized KV needs it",
            parser=opt.on_off(),
            group=MODEL,
            metavar="on/off",
            automatic="on for quantized KV; for f16 as measured here, else off on x86 and on elsewhere",
        ),
    ] = None
    mmap: Annotated[
        bool | None,
        Option(
            help="Map the model's file instead of reading a copy of it into memory: on or off",
            parser=opt.on_off(),
            group=MODEL,
            metavar="on/off",
            automatic="as measured here, else on",
        ),
    ] = None
    no_tune: Annotated[
        bool,
        Option(
            help="Measure nothing at the first start with a model; what `appliance tune` found is used all the same",
            parser=opt.truth(),
            group=MODEL,
            switch=True,
        ),
    ] = False
    all_models: Annotated[
        bool,
        Option(
            help="Serve every model of the models directory and the catalog, after those that are named",
            parser=opt.truth(),
            group=SEVERAL,
            switch=True,
        ),
    ] = False
    preload: Annotated[
        tuple[str, ...],
        Option(
            help="Load this model at the start, if there is room, and not with its first request; may be repeated, and "
            "none loads none",
            parser=opt.path_or_name(),
            group=SEVERAL,
            metavar="NAME",
            many=True,
            automatic="the first model",
        ),
    ] = ()
    keep_alive: Annotated[
        tuple[opt.KeepAlive, ...],
        Option(
            help="How long a model stays in memory when nobody uses it; NAME=TIME for one model, may be repeated",
            parser=opt.keep_alive(),
            group=SEVERAL,
            metavar="TIME",
            many=True,
            automatic="30m, or for ever where only one model is served",
        ),
    ] = ()
    load_wait_s: Annotated[
        float,
        Option(
            help="How long a request may wait for its model to be loaded, in seconds; beyond it, it gets 503",
            parser=opt.seconds(0.1, 86_400),
            group=SEVERAL,
            metavar="SECONDS",
        ),
    ] = 300.0
    never_smaller: Annotated[
        bool,
        Option(
            help="Load models in full size only: one for which models in use leave too little memory waits for them, "
            "instead of being loaded in a lower quantization or with a shorter context",
            parser=opt.truth(),
            group=SEVERAL,
            switch=True,
        ),
    ] = False
    slots: Annotated[
        int | None,
        Option(
            help="Requests that are answered at the same time (elsewhere called `max_num_seqs`)",
            parser=opt.whole_number(1, MAX_SLOTS),
            group=BATCH,
            metavar="N",
            automatic="4, or 1 where memory is short",
        ),
    ] = None
    max_batch_rows: Annotated[
        int,
        Option(
            help="Most tokens computed in one step, over all requests (elsewhere called `max_batch_size`)",
            parser=opt.whole_number(1, 8192, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 512
    max_waiting: Annotated[
        int,
        Option(
            help="Most prompt tokens that may wait for a slot; beyond it requests get 429 "
            "(elsewhere called `max_waiting_tokens`)",
            parser=opt.whole_number(1, _MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 65536
    max_stall_ms: Annotated[
        int,
        Option(
            help="Longest pause that somebody else's long prompt may cause in a running answer, in milliseconds; "
            "within it, the shortest step that computes prompts at nearly the best rate measured here",
            parser=opt.whole_number(1, 60_000, "milliseconds"),
            group=BATCH,
            metavar="MS",
        ),
    ] = 250
    resident_prefix_cells: Annotated[
        int | None,
        Option(
            help="Cells of the KV cache that may stay filled with prefixes of finished requests, to be reused; 0 keeps "
            "none. Every filled cell slows every step a little",
            parser=opt.whole_number(0, _MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
            automatic="as many as slow one answer by 3 %, as measured here, at most those of one longest request",
        ),
    ] = None
    prefix_host_bytes: Annotated[
        int | None,
        Option(
            help="Memory for prefixes that had to leave the KV cache; a size such as 512MiB, 0 for none",
            parser=opt.byte_count(0),
            group=BATCH,
            metavar="SIZE",
            automatic="half of the memory that the plan leaves free, at most 1GiB",
        ),
    ] = None
    prefix_disk_bytes: Annotated[
        int,
        Option(
            help="Disk space in --state-dir for long prefixes that were used again, so that a restart need not compute "
            "them; a size such as 2GiB, 0 for none. They hold what people wrote",
            parser=opt.byte_count(0),
            group=BATCH,
            metavar="SIZE",
        ),
    ] = 512 << 20
    prefix_ttl_s: Annotated[
        float,
        Option(
            help="How long an unused prefix is kept, in seconds",
            parser=opt.seconds(0, 31_536_000),
            group=BATCH,
            metavar="SECONDS",
        ),
    ] = 3600.0
    host: Annotated[
        str,
        Option(
            help="Address to listen on; anything but loopback needs --api-key-file or --insecure",
            parser=opt.pattern(r"[A-Za-z0-9_.:%\-]+", "a host name or an address"),
            group=NETWORK,
            metavar="HOST",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(help="Port to listen on", parser=opt.whole_number(1, 65535), group=NETWORK, metavar="PORT"),
    ] = 8080
    api_key_file: Annotated[
        Path | None,
        Option(
            help="File with one accepted API key per line; without it no key is asked for",
            parser=opt.path(),
            group=NETWORK,
            metavar="FILE",
        ),
    ] = None
    insecure: Annotated[
        bool,
        Option(
            help="Allow a public address without an API key: everybody who reaches the port may use the model",
            parser=opt.truth(),
            group=NETWORK,
            switch=True,
        ),
    ] = False
    alias: Annotated[
        tuple[opt.Alias, ...],
        Option(
            help="Another name under which clients may ask for the first model, or NAME=MODEL for another one; may be "
            "repeated",
            parser=opt.alias(),
            group=NETWORK,
            metavar="NAME",
            many=True,
        ),
    ] = ()
    max_body_bytes: Annotated[
        int | None,
        Option(
            help="Largest request body; a size such as 16MiB",
            parser=opt.byte_count(1024),
            group=NETWORK,
            metavar="SIZE",
            automatic="64 bytes for every token of the context, at least 1MiB and at most 16MiB",
        ),
    ] = None
    client_timeout_s: Annotated[
        float,
        Option(
            help="How long a client may take to send its request, and how long it may take nothing of its answer, in "
            "seconds",
            parser=opt.seconds(0.1, 86_400),
            group=NETWORK,
            metavar="SECONDS",
        ),
    ] = 30.0
    models_dir: Annotated[
        Path,
        Option(
            help="Where converted models are kept",
            parser=opt.path(),
            group=PROCESS,
            metavar="DIR",
            default_from=_default_models_dir,
            default_text="$XDG_DATA_HOME/appliance/models, or ~/.local/share/appliance/models",
        ),
    ]
    state_dir: Annotated[
        Path,
        Option(
            help="Where results of measurements are remembered",
            parser=opt.path(),
            group=PROCESS,
            metavar="DIR",
            default_from=_default_state_dir,
            default_text="$XDG_STATE_HOME/appliance, or ~/.local/state/appliance",
        ),
    ]
    drain_s: Annotated[
        float,
        Option(
            help="How long a stopping server lets answers in progress finish, in seconds",
            parser=opt.seconds(0, 3600),
            group=PROCESS,
            metavar="SECONDS",
        ),
    ] = 30.0
    log_level: Annotated[
        str,
        Option(
            help="How much is logged; debug shows the rows of every step",
            parser=opt.one_of("debug", "info", "warning", "error"),
            group=PROCESS,
            metavar="LEVEL",
        ),
    ] = "info"

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_computing()
        if not (is_loopback(self.host) or self.api_key_file is not None or self.insecure):
            raise BadSettings(
                f"--host {self.host} can be reached from other machines and no API key is asked for. "
                "Give --api-key-file FILE, or --insecure if that is what you want, or listen on 127.0.0.1."
            )

    def for_default_model(self) -> ServeSettings:
        """The same machine and directories, for the model that comes with us, in all its quantizations."""
        return replace(self, model=(), quant=None)

    def for_model(self, argument: str | None) -> ServeSettings:
        """The same for this model alone; None is the default one."""
        return replace(self, model=() if argument is None else (argument,))

    @property
    def first_model(self) -> str | None:
        """The model as it was named; None is the default one."""
        return self.model[0] if self.model else None

    def _check_sizes(self) -> None:
        if not 1 <= self.port <= 65535:
            raise BadSettings(f"--port {self.port} is no port: allowed are 1 to 65535.")
        if self.slots is not None and not 1 <= self.slots <= MAX_SLOTS:
            raise BadSettings(f"--slots {self.slots} is not possible: allowed are 1 to {MAX_SLOTS}.")
        if self.slots is not None and self.max_batch_rows < self.slots:
            raise BadSettings(
                f"--max-batch-rows {self.max_batch_rows} is less than --slots {self.slots}: every running answer "
                "needs one row of each step."
            )
        if self.ctx is not None and self.kv_cells is not None and self.kv_cells < self.ctx:
            raise BadSettings(
                f"--kv-cells {self.kv_cells} is less than --ctx {self.ctx}: one request of the full context would "
                "not fit. Give at least as many cells as tokens of context."
            )

    def _check_computing(self) -> None:
        if self.flash_attention is False and self.kv_type not in (None, "f16"):
            raise BadSettings(
                f"--flash-attention off is not possible with --kv-type {self.kv_type}: only flash attention reads "
                "quantized KV. Give --kv-type f16, or leave out one of them."
            )
        if self.ubatch_rows is not None and self.ubatch_rows > self.max_batch_rows:
            raise BadSettings(
                f"--ubatch-rows {self.ubatch_rows} is more than --max-batch-rows {self.max_batch_rows}, the most there "
                "are in a step."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`: 127.0.0.0/8, ::1 or the name localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another name: may resolve to anything
