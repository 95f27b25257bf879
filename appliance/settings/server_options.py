"""Options of the server's process and of its network side.

Knows no source and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from appliance.errors import BadSettings
from appliance.settings import options as opt
from appliance.settings.logging_options import LoggingOptions
from appliance.settings.network_values import file_mode, host_name, listen_address, origin
from appliance.settings.options import Option

NETWORK = "Network"
PROCESS = "Process"
DEFAULT_LIFETIME = opt.Lifetime("30d")  # of stored responses: OpenAI's


def home_directory(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "")
    if not home:
        raise BadSettings(
            "HOME is not set, so there are no default directories. Give --models-dir and "
            "--state-dir."
        )
    return Path(home)


def _xdg(environ: Mapping[str, str], variable: str, under_home: str) -> Path:
    """A base directory (https://specifications.freedesktop.org/basedir-spec): relative
    values are to be ignored.
    """
    base = environ.get(variable, "")
    return Path(base) if base.startswith("/") else home_directory(environ) / under_home


def _default_models_dir(environ: Mapping[str, str]) -> Path:
    return _xdg(environ, "XDG_DATA_HOME", ".local/share") / "appliance" / "models"


def _default_state_dir(environ: Mapping[str, str]) -> Path:
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "appliance"


@dataclass(frozen=True, kw_only=True)
class ServerOptions(LoggingOptions):
    """Part of `ServeSettings`."""

    host: Annotated[
        str,
        Option(
            help="Address or name to listen on, a name at all its addresses; :: is every address "
            "of IPv4 and IPv6. Any but loopback needs a key (`appliance keys`), --api-key-file or "
            "--insecure. unix:/PATH is a Unix socket instead",
            parser=listen_address(),
            group=NETWORK,
            metavar="HOST",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(
            help="Port to listen on",
            parser=opt.whole_number(1, 65535),
            group=NETWORK,
            metavar="PORT",
        ),
    ] = 8080
    api_key_file: Annotated[
        Path | None,
        Option(
            help="File with one accepted API key per line, beside those that `appliance keys` has "
            "made; without any, no key is required",
            parser=opt.path(),
            group=NETWORK,
            metavar="FILE",
        ),
    ] = None
    insecure: Annotated[
        bool,
        Option(
            help="Allow a public address without an API key: everyone who can reach the port can "
            "use the models",
            parser=opt.truth(),
            group=NETWORK,
            switch=True,
        ),
    ] = False
    tls_cert: Annotated[
        Path | None,
        Option(
            help="PEM file with the server's certificate and what signed it; with it the server "
            "speaks TLS (https) alone. When the file changes, new connections are shown what it "
            "holds by then",
            parser=opt.path(),
            group=NETWORK,
            metavar="FILE",
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        Option(
            help="PEM file with the certificate's private key, without a passphrase; without this "
            "option, the key is in the certificate's file",
            parser=opt.path(),
            group=NETWORK,
            metavar="FILE",
        ),
    ] = None
    socket_mode: Annotated[
        str,
        Option(
            help="Who may connect to a Unix socket (--host unix:/PATH), as a file's mode",
            parser=file_mode(),
            group=NETWORK,
            metavar="MODE",
        ),
    ] = "660"
    allowed_host: Annotated[
        tuple[str, ...],
        Option(
            help="Another host name by which this server is reached, such as that of a tunnel or a "
            "proxy; may be repeated. A server on loopback without keys answers to no other names "
            "but loopback's, and with this option any server does so",
            parser=host_name(),
            group=NETWORK,
            metavar="HOST",
            many=True,
        ),
    ] = ()
    allow_origin: Annotated[
        tuple[str, ...],
        Option(
            help="Origin of web pages that may use this server from a browser (CORS); may be "
            "repeated",
            parser=origin(),
            group=NETWORK,
            metavar="ORIGIN",
            many=True,
        ),
    ] = ()
    alias: Annotated[
        tuple[opt.Alias, ...],
        Option(
            help="Another name by which clients can request the first model, or NAME=MODEL for "
            "another model; may be repeated",
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
            automatic="64 bytes per token of the context, at least 1MiB and at most 16MiB",
        ),
    ] = None
    client_timeout_s: Annotated[
        float,
        Option(
            help="How long a client may take to send its request, and how long it may read nothing "
            "of its answer: seconds, or a duration such as 1m30s",
            parser=opt.seconds(0.1, 86_400),
            group=NETWORK,
            metavar="DURATION",
        ),
    ] = 30.0
    sse_keep_alive_s: Annotated[
        float,
        Option(
            help="After how much silence a stream holds a comment (of Ollama's lines a space), and "
            "how often a WebSocket is pinged, so that nobody gives it up while its prompt is "
            "queued or computed; 0: never. Seconds, or a duration such as 1m30s",
            parser=opt.seconds(0, 3600),
            group=NETWORK,
            metavar="DURATION",
        ),
    ] = 10.0
    resume_s: Annotated[
        float,
        Option(
            help="How long a client whose connection broke may come back to its stream, with the "
            "header Last-Event-ID or on another WebSocket; 0: never, and events have no ids. They "
            "have none either for who does not accept text/event-stream. Seconds, or a duration "
            "such as 1m30s",
            parser=opt.seconds(0, 3600),
            group=NETWORK,
            metavar="DURATION",
        ),
    ] = 30.0
    request_timeout_s: Annotated[
        float,
        Option(
            help="How long a request may take from its arrival to its last token, waiting "
            "included; 0: as long as it likes. A client may ask for less with the header "
            "x-request-timeout or with 'timeout' in the body. Seconds, or a duration such as 1m30s",
            parser=opt.seconds(0, 86_400),
            group=NETWORK,
            metavar="DURATION",
        ),
    ] = 0.0
    strict_parameters: Annotated[
        bool,
        Option(
            help="Refuse requests with parameters that this server does not know, instead of "
            "ignoring these and naming them in the header x-ignored-parameters",
            parser=opt.truth(),
            group=NETWORK,
            switch=True,
        ),
    ] = False
    model_changes: Annotated[
        str,
        Option(
            help="Whether clients may pull, create, copy and delete models (Ollama's endpoints). "
            "auto: where the server listens on this machine alone",
            parser=opt.one_of("auto", "on", "off"),
            group=NETWORK,
            metavar="MODE",
        ),
    ] = "auto"
    store_responses: Annotated[
        opt.Lifetime,
        Option(
            help="How long responses and conversations are kept in --state-dir after they were "
            "last continued, for previous_response_id, /v1/responses/{id} and responses in the "
            "background: a duration such as 30d or 12h, -1 for ever, or off. These files contain "
            "what people wrote",
            parser=opt.lifetime(),
            group=PROCESS,
            metavar="DURATION",
        ),
    ] = DEFAULT_LIFETIME
    store_responses_bytes: Annotated[
        int,
        Option(
            help="Disk space for them; what was used longest ago goes first",
            parser=opt.byte_count(1 << 20),
            group=PROCESS,
            metavar="SIZE",
        ),
    ] = 256 << 20
    files_bytes: Annotated[
        int,
        Option(
            help="Room in --state-dir for the files of all clients (/v1/files) and what their "
            "batches have answered; 0: no files and no batches",
            parser=opt.byte_count(0),
            group=PROCESS,
            metavar="SIZE",
        ),
    ] = 1 << 30
    models_dir: Annotated[
        Path,
        Option(
            help="Directory of downloaded and converted models",
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
            help="Directory of keys, measurements, saved prefixes, stored responses, files and "
            "batches of clients",
            parser=opt.path(),
            group=PROCESS,
            metavar="DIR",
            default_from=_default_state_dir,
            default_text="$XDG_STATE_HOME/appliance, or ~/.local/state/appliance",
        ),
    ]
    confine: Annotated[
        str,
        Option(
            help="Take all rights from a worker but to compute, read its model and write its "
            "part of the state (Linux: Landlock, seccomp). auto: as far as this kernel can; on: "
            "rather no service than less; off: keep all rights",
            parser=opt.one_of("auto", "on", "off"),
            group=PROCESS,
            metavar="MODE",
        ),
    ] = "auto"
    thermal: Annotated[
        str,
        Option(
            help="Keep sustained work just below the temperature at which the machine slows "
            "itself down, with fewer threads and pauses between steps. auto: where the machine "
            "was seen to slow down, and this was measured to be better; on: always; off: never",
            parser=opt.one_of("auto", "on", "off"),
            group=PROCESS,
            metavar="MODE",
        ),
    ] = "auto"
    drain_delay_s: Annotated[
        float,
        Option(
            help="How long a stopping server goes on taking requests while /health says that it "
            "ends, before it refuses new ones: for a balancer that asks there, and sends nothing "
            "more by then. Seconds, or a duration such as 1m30s",
            parser=opt.seconds(0, 3600),
            group=PROCESS,
            metavar="DURATION",
        ),
    ] = 0.0
    drain_s: Annotated[
        float,
        Option(
            help="How long a stopping server lets answers in progress finish: seconds, or a "
            "duration such as 1m30s",
            parser=opt.seconds(0, 3600),
            group=PROCESS,
            metavar="DURATION",
        ),
    ] = 30.0
