#!/usr/bin/env bash
# Installs the appliance into a virtual environment beside this file, with llama.cpp built for this machine's CPU.
#
# Knows how to get from a checkout to a command that works. Does not know how models are fetched, chosen or served.
# Runs as any user; writes to the virtual environment and to ${XDG_CACHE_HOME:-~/.cache}/appliance only.
#
# Layout: detect_* functions only look and print what they found; *_step functions change something, and run under
# run_step, which prints the step's name and time, keeps its output in a log, and on failure shows the end of it.

set -euo pipefail

readonly MIN_PYTHON_MINOR=10       # Python 3.10, as pyproject.toml's requires-python
readonly BUILD_JOB_RAM_KB=1500000  # the hungriest translation units of llama.cpp need this much each
readonly LOG_TAIL_LINES=25
readonly LOGS_KEPT=5

CHECKOUT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly CHECKOUT

# Decided by parse_options and prepare, read by the steps.
venv_dir="$CHECKOUT/.venv"
with_dev=0
with_self_test=1
verbose=0
cache_dir=''
log_file=''
python=''
llama_version=''
wheel_key=''
wheel_dir=''
progress_pid=''

usage() {
    cat <<'END'
Usage: ./install.sh [options]

Builds llama.cpp for this CPU (minutes the first time, then reused), installs the appliance into a virtual environment,
and checks that this machine can compute with it. Running it again is quick and brings the installation up to date.

  --dev            install the checkout itself, editable, with the test and lint tools
  --venv DIR       the virtual environment (default: .venv in the checkout)
  --no-selftest    do not check the CPU after installing
  --verbose        show the output of every step, not only of a failing one
  --help           this text

Environment: PYTHON (interpreter to use), CC, CXX, CFLAGS, CXXFLAGS, CMAKE_ARGS and CMAKE_BUILD_PARALLEL_LEVEL (for the
build of llama.cpp), PIP_* (as pip reads them), XDG_CACHE_HOME (where built wheels and logs are kept).
END
}

# --- telling the user ------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

# die STEP MESSAGE...: the step that failed, why, and what to do about it, one line each.
die() {
    printf '\ninstall.sh failed: %s\n' "$1" >&2
    shift
    printf '  %s\n' "$@" >&2
    exit 1
}

# Shows elapsed time and, where the step's log has one, the last [n/m] of the build, until it is killed.
show_progress() {
    local name=$1 first_line=$2 started=$SECONDS count
    while sleep 2; do
        count=$(tail -n "+$first_line" "$log_file" | grep -Eo '\[[0-9]+/[0-9]+\]' | tail -n 1) || count=''
        printf '\r  ....  %s %s %d s ' "$name" "$count" "$((SECONDS - started))"
    done
}

stop_progress() {
    if [[ -n "$progress_pid" ]]; then
        kill "$progress_pid" 2>/dev/null || true
        wait "$progress_pid" 2>/dev/null || true
        progress_pid=''
        printf '\r\033[K'
    fi
}

# run_step NAME FUNCTION: runs FUNCTION in a subshell, so that it can change files but none of our variables.
run_step() {
    local name=$1 action=$2 started=$SECONDS status first_line
    printf '== %s\n' "$name" >>"$log_file"
    first_line=$(($(wc -l <"$log_file") + 1))
    # errexit has no effect in the operand of && or ||: hence the plain subshell between set +e and set -e.
    if ((verbose)); then
        say "== $name"
        set +e
        (set -e; "$action") 2>&1 </dev/null | tee -a "$log_file"
        status=${PIPESTATUS[0]}
        set -e
    else
        if [[ -t 1 ]]; then
            show_progress "$name" "$first_line" &
            progress_pid=$!
        fi
        set +e
        (set -e; "$action") >>"$log_file" 2>&1 </dev/null
        status=$?
        set -e
        stop_progress
    fi
    if ((status != 0)); then
        {
            printf '  FAIL  %s (%d s, exit status %d)\n\n' "$name" "$((SECONDS - started))" "$status"
            tail -n "+$first_line" "$log_file" | tail -n "$LOG_TAIL_LINES"
            printf '\ninstall.sh failed: %s\n  The whole log: %s\n' "$name" "$log_file"
        } >&2
        exit 1
    fi
    printf '  ok    %s (%d s)\n' "$name" "$((SECONDS - started))"
}

# --- what there is ---------------------------------------------------------------------------------------------------

detect_platform() {
    local system
    system=$(uname -s)
    if [[ "$system" != Linux ]]; then
        die 'Check the platform' "This installer knows Linux; here is $system."
    fi
    uname -m
}

# As in the XDG base directory specification, a relative XDG_CACHE_HOME does not count.
detect_cache_home() {
    case ${XDG_CACHE_HOME:-} in
        /*) say "$XDG_CACHE_HOME" ;;
        *) say ~/.cache ;;
    esac
}

detect_package_manager() {
    local manager
    for manager in apt-get dnf pacman apk zypper; do
        if command -v "$manager" >/dev/null 2>&1; then
            say "$manager"
            return
        fi
    done
    say unknown
}

# Whether the command runs, is Python 3.10 or newer, and can make virtual environments. Prints 3.MINOR either way.
probe_python() {
    "$1" - "$MIN_PYTHON_MINOR" 2>/dev/null <<'END'
import sys
print("%d.%d" % sys.version_info[:2])
if sys.version_info < (3, int(sys.argv[1])):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
END
}

# Prints the first usable interpreter: PYTHON alone if set, else python3, else the newest python3.N.
detect_python() {
    local candidate version status without_venv='' too_old=''
    local candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
    if [[ -n "${PYTHON:-}" ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        status=0
        version=$(probe_python "$candidate") || status=$?
        case $status in
            0)
                command -v "$candidate"
                return
                ;;
            3) too_old=${too_old:-"$candidate is Python $version"} ;;
            4) without_venv=${without_venv:-$version} ;;
        esac
    done
    if [[ -n "$without_venv" ]]; then
        die 'Check Python' "Python $without_venv has no venv module with pip." "$(install_hint venv "$without_venv")"
    fi
    if [[ -n "${PYTHON:-}" ]]; then
        die 'Check Python' "PYTHON=$PYTHON is no usable Python 3.$MIN_PYTHON_MINOR or newer. ${too_old:+($too_old.)}"
    fi
    die 'Check Python' "There is no Python 3.$MIN_PYTHON_MINOR or newer. ${too_old:+($too_old.)}" \
        "$(install_hint python)" 'Or name an interpreter: PYTHON=/path/to/python3 ./install.sh'
}

# Fails unless C and C++ programs that use the standard library can be built. cmake and ninja are not looked for: where
# they are missing or too old, the build of llama-cpp-python takes them from pip.
detect_compiler() {
    local pair language tool source
    for pair in "c:${CC:-}" "c++:${CXX:-}"; do
        language=${pair%%:*}
        tool=${pair#*:}
        if [[ -z "$tool" ]]; then
            tool=$(find_compiler "$language") ||
                die 'Check the compiler' "There is no ${language^^} compiler." "$(install_hint compiler)"
        fi
        source='#include <stdio.h>'
        if [[ "$language" == c++ ]]; then
            source='#include <vector>'
        fi
        # Unquoted: CC="ccache gcc" is a command and its argument.
        # shellcheck disable=SC2086
        printf '%s\nint main(void) { return 0; }\n' "$source" | $tool -x "$language" -o /dev/null - >/dev/null 2>&1 ||
            die 'Check the compiler' "$tool cannot build a small ${language^^} program." "$(install_hint compiler)"
    done
}

find_compiler() {
    local tool tools='cc gcc clang'
    if [[ "$1" == c++ ]]; then
        tools='c++ g++ clang++'
    fi
    for tool in $tools; do
        if command -v "$tool" >/dev/null 2>&1; then
            say "$tool"
            return
        fi
    done
    return 1
}

# The exact command that installs what is missing. NEED is python, venv or compiler; VERSION as in 3.11.
install_hint() {
    local need=$1 version=${2:-} manager command packages
    manager=$(detect_package_manager)
    case $manager:$need in
        apt-get:python) packages='python3 python3-venv' ;;
        apt-get:venv) packages="python$version-venv" ;;
        apt-get:compiler) packages='gcc g++' ;;
        dnf:python) packages='python3.12' ;;
        dnf:venv) packages="python$version" ;;
        dnf:compiler) packages='gcc gcc-c++' ;;
        pacman:python | pacman:venv) packages='python' ;;
        pacman:compiler) packages='gcc' ;;
        apk:python | apk:venv) packages='python3' ;;
        apk:compiler) packages='build-base linux-headers' ;;
        zypper:python) packages='python312' ;;
        zypper:venv) packages="python${version/./}" ;;
        zypper:compiler) packages='gcc gcc-c++' ;;
        *:compiler) packages='a C and a C++ compiler' ;;
        *) packages="Python 3.$MIN_PYTHON_MINOR or newer with its venv module" ;;
    esac
    case $manager in
        apt-get) command='apt-get install' ;;
        dnf) command='dnf install' ;;
        pacman) command='pacman -S' ;;
        apk) command='apk add' ;;
        zypper) command='zypper install' ;;
        *)
            say "Install $packages with this system's package manager, then run install.sh again."
            return
            ;;
    esac
    if ((EUID != 0)); then
        command="sudo $command"
    fi
    say "Install it with: $command $packages"
}

# The version that pyproject.toml pins; it is written there and nowhere else.
detect_llama_version() {
    local versions
    versions=$(sed -n 's/^ *"llama-cpp-python==\([0-9][^";, ]*\)".*$/\1/p' "$CHECKOUT/pyproject.toml")
    if [[ -z "$versions" || "$versions" == *$'\n'* ]]; then
        die 'Read pyproject.toml' "Expected exactly one \"llama-cpp-python==VERSION\", found: ${versions:-none}."
    fi
    say "$versions"
}

# Model and instruction sets of the CPUs here, without what changes from boot to boot (clock, number of cores). CPUINFO is /proc/cpuinfo.
detect_cpu() {
    awk '/^(model name|flags|isa|Features|CPU (implementer|architecture|variant|part))[[:space:]]*:/' \
        "$1" | sort -u
}

# Everything that decides the bits of the built wheel, as text. The Python version is not among it: the wheel is py3-none.
detect_build_inputs() {
    say "llama-cpp-python $llama_version"
    say "machine $(detect_platform) libc $("$python" -c 'import platform; print(*platform.libc_ver())')"
    say "CMAKE_ARGS=${CMAKE_ARGS:-} CC=${CC:-} CXX=${CXX:-} CFLAGS=${CFLAGS:-} CXXFLAGS=${CXXFLAGS:-}"
    detect_cpu /proc/cpuinfo
}

# As many compilers at once as there are cores, but no more than the available memory allows.
detect_build_jobs() {
    local cores ram_kb jobs
    cores=$(getconf _NPROCESSORS_ONLN)
    ram_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    jobs=$((ram_kb / BUILD_JOB_RAM_KB))
    ((jobs >= 1)) || jobs=1
    ((jobs <= cores)) || jobs=$cores
    say "$jobs"
}

detect_wheel() {
    local wheel
    for wheel in "$wheel_dir"/llama_cpp_python-*.whl; do
        if [[ -f "$wheel" ]]; then
            say "$wheel"
            return
        fi
    done
    return 1
}

# What an installation is made of: two equal fingerprints need no second installation. Editable, the sources need none.
detect_installation() {
    say "$wheel_key dev=$with_dev $CHECKOUT $venv_dir"
    (
        cd -- "$CHECKOUT"
        sha256sum pyproject.toml
        if ! ((with_dev)); then
            find appliance convert models -type f ! -name '*.pyc' -exec sha256sum {} + | sort -k 2
        fi
    ) | sha256sum
}

# --- what is done ----------------------------------------------------------------------------------------------------

make_venv_step() {
    local reason=''
    if [[ ! -e "$venv_dir" ]]; then
        reason='it does not exist'
    elif [[ ! -f "$venv_dir/pyvenv.cfg" ]]; then
        if [[ -n "$(ls -A -- "$venv_dir")" ]]; then
            echo "$venv_dir exists and is no virtual environment: name another with --venv, or remove it." >&2
            return 1
        fi
        reason='it is empty'
    elif ! probe_python "$venv_dir/bin/python" >/dev/null; then
        reason='its Python is gone or too old'
    elif ! "$venv_dir/bin/python" -m pip --version; then
        reason='it has no pip'
    fi
    if [[ -n "$reason" ]]; then
        echo "making $venv_dir: $reason"
        "$python" -m venv --clear "$venv_dir"
    fi
}

# Builds into a temporary folder beside the final one, then renames: a folder with the final name holds a whole wheel.
build_wheel_step() {
    local building
    export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(detect_build_jobs)}
    mkdir -p -- "$cache_dir/wheels"
    # What a killed build left behind.
    find "$cache_dir/wheels" -maxdepth 1 -name '.building.*' -mtime +1 -exec rm -rf -- {} +
    building=$(mktemp -d "$cache_dir/wheels/.building.XXXXXX")
    # shellcheck disable=SC2064 # the folder's name is wanted as it is now
    trap "rm -rf -- $(printf '%q' "$building")" EXIT
    detect_build_inputs >"$building/inputs.txt"
    # No pip cache: its wheels are kept by version alone, and would serve another CPU's build, or other CMAKE_ARGS.
    "$venv_dir/bin/python" -m pip wheel --verbose --no-deps --no-cache-dir --no-binary llama-cpp-python \
        --wheel-dir "$building" "llama-cpp-python==$llama_version"
    chmod 755 -- "$building"
    if ! "$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$building" "$wheel_dir"; then
        detect_wheel # another installer was quicker: its wheel is as good
    fi
}

install_step() {
    local pip=("$venv_dir/bin/python" -m pip) wheel requirement="$CHECKOUT" editable=() stamp="$venv_dir/.appliance-wheel"
    wheel=$(detect_wheel)
    # pip takes an equal version for the same wheel; ours may differ in its flags.
    if [[ "$(cat -- "$stamp" 2>/dev/null)" != "$wheel_key" ]]; then
        rm -f -- "$stamp"
        "${pip[@]}" install --force-reinstall --no-deps "$wheel"
    fi
    if ((with_dev)); then
        requirement="${CHECKOUT}[dev]"
        editable=(--editable)
    fi
    "${pip[@]}" install "$wheel" ${editable[@]+"${editable[@]}"} "$requirement"
    say "$wheel_key" >"$stamp"
    detect_installation >"$venv_dir/.appliance-installed"
}

self_test_step() {
    "$venv_dir/bin/appliance" doctor
}

# --- the whole -------------------------------------------------------------------------------------------------------

parse_options() {
    while (($# > 0)); do
        case $1 in
            --dev) with_dev=1 ;;
            --venv)
                if (($# < 2)) || [[ -z "$2" ]]; then
                    die 'Read the options' '--venv needs a directory.'
                fi
                venv_dir=$(absolute_path "$2")
                shift
                ;;
            --no-selftest) with_self_test=0 ;;
            --verbose) verbose=1 ;;
            --help | -h)
                usage
                exit 0
                ;;
            *)
                usage >&2
                die 'Read the options' "Unknown option: $1"
                ;;
        esac
        shift
    done
}

absolute_path() {
    case $1 in
        /*) say "$1" ;;
        *) say "$PWD/$1" ;;
    esac
}

# Opens this run's log, and forgets all but the newest few of earlier runs.
open_log() {
    local logs="$cache_dir/logs" old
    mkdir -p -- "$logs"
    log_file="$logs/install-$(date +%Y%m%d-%H%M%S)-$$.log"
    : >"$log_file"
    # The names hold a date: their order is their age.
    for old in "$logs"/install-*.log; do say "$old"; done | sort -r | tail -n "+$((LOGS_KEPT + 1))" |
        while IFS= read -r old; do rm -f -- "$old"; done
}

# Looks at the machine and decides; changes nothing but the log.
prepare() {
    detect_platform >/dev/null
    cache_dir=$(detect_cache_home)/appliance
    open_log
    python=$(detect_python)
    llama_version=$(detect_llama_version)
    wheel_key="$llama_version-$(uname -m)-$(detect_build_inputs | sha256sum | cut -c 1-12)"
    wheel_dir="$cache_dir/wheels/$wheel_key"
    if ! detect_wheel >/dev/null; then
        detect_compiler
    fi
}

is_installed() {
    [[ "$(cat -- "$venv_dir/.appliance-installed" 2>/dev/null)" == "$(detect_installation)" ]] &&
        [[ -x "$venv_dir/bin/appliance" ]] && "$venv_dir/bin/python" -c 'import sys' 2>/dev/null
}

main() {
    trap stop_progress EXIT
    parse_options "$@"
    prepare
    if is_installed; then
        say "  ok    The appliance in $venv_dir is up to date"
    else
        run_step 'Make the virtual environment' make_venv_step
        if ! detect_wheel >/dev/null; then
            run_step "Build llama.cpp for this CPU (llama-cpp-python $llama_version; minutes, once)" build_wheel_step
        fi
        run_step 'Install the appliance' install_step
    fi
    if ((with_self_test)); then
        run_step 'Check that this CPU computes right' self_test_step
    fi
    say "Installed. Start it with: $venv_dir/bin/appliance serve"
}

# Sourced (by the tests), this file only defines its functions.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    main "$@"
fi
