"""The published settings of nginx and Caddy, run on loopback: addresses and a
certificate of a test put in, Caddy's checks more often, and nothing else changed.

Knows no test.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import trustme

from tests.conftest import ROOT
from tests.serve.server import Server, free_port

DEPLOY = ROOT / "deploy"
NAME = "llm.example.org"
_SERVERS = ("192.0.2.11:8080", "192.0.2.12:8080")
_NGINX = """\
daemon off;
{user}
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    {paths}
    include {folder}/appliance.conf;
}}
"""


class Balancer(Server):
    """One that runs, which is reached over TLS by `NAME`."""

    def __init__(self, command: list[str], port: int, folder: Path) -> None:
        data = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        super().__init__(command, port, {**os.environ, **data}, folder)
        self.url = f"https://127.0.0.1:{port}"

    def end(self) -> None:
        """At once, and not by killing: nginx would start its workers again meanwhile."""
        self.process.terminate()
        self.process.wait()
        super().end()


def nginx(servers: tuple[str, str], authority: trustme.CA, folder: Path) -> Balancer:
    """Two worker processes of it, in front of the servers (host:port)."""
    program, port = shutil.which("nginx"), free_port()
    assert program is not None
    chain, key = _certificate(authority, folder)
    settings = _with(
        (DEPLOY / "nginx" / "appliance.conf").read_text(encoding="utf-8"),
        {
            **dict(zip(_SERVERS, servers, strict=True)),
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/appliance/fullchain.pem": str(chain),
            "/etc/ssl/appliance/privkey.pem": str(key),
            "/var/log/nginx/appliance.log": f"{folder}/access.log",
        },
    )
    (folder / "appliance.conf").write_text(settings, encoding="utf-8")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    main = _NGINX.format(
        user="user root;" if os.geteuid() == 0 else "",  # pytest's folders are the user's own
        folder=folder,
        paths=" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
    )
    (folder / "nginx.conf").write_text(main, encoding="utf-8")
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    balancer = Balancer(command, port, folder)
    balancer.await_line("start worker process")
    return balancer


def caddy(servers: tuple[str, str], authority: trustme.CA, folder: Path) -> Balancer:
    program, port = shutil.which("caddy"), free_port()
    assert program is not None
    chain, key = _certificate(authority, folder)
    settings = _with(
        (DEPLOY / "caddy" / "Caddyfile").read_text(encoding="utf-8"),
        {
            **dict(zip(_SERVERS, servers, strict=True)),
            "health_interval 1s": "health_interval 200ms",
            f"{NAME} {{": f"https://{NAME}:{port} {{\n\ttls {chain} {key}",
        },
    )
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + settings, encoding="utf-8")
    command = [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    balancer = Balancer(command, port, folder)
    balancer.await_line("serving initial configuration")
    return balancer


def _certificate(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """The files of its chain and its key."""
    made = authority.issue_cert(NAME)
    chain, key = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return chain, key


def _with(settings: str, replaced: dict[str, str]) -> str:
    for old, new in replaced.items():
        assert old in settings, f"the settings have no {old!r}"
        settings = settings.replace(old, new)
    return settings
