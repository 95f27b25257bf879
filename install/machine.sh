# shellcheck shell=bash
# What this machine is: system, processor, memory, package manager, directories. Only looks. Knows no GPU and no Python.
#
# INSTALL_ROOT (for tests) stands before the absolute path of every system file that is read or written.

readonly SYSTEM_ROOT=${INSTALL_ROOT:-}

# Linux or Darwin; nothing else is known here.
detect_system() {
    local system
    system=$(uname -s)
    case $system in
        Linux | Darwin) say "$system" ;;
        *) die 'Check the platform' "This installer supports Linux and macOS, but not $system." ;;
    esac
}

# As in the XDG base directory specification, a relative value does not count.
detect_xdg() {
    local variable=$1 under_home=$2 value
    value=${!variable:-}
    case $value in
        /*) say "$value" ;;
        *) say "$HOME/$under_home" ;;
    esac
}

# The home directory of the user who called sudo; nothing without sudo.
detect_sudo_home() {
    if ((EUID == 0)) && [[ "${SUDO_USER:-root}" != root ]] && command -v getent >/dev/null; then
        getent passwd "$SUDO_USER" | cut -d : -f 6
    fi
}

detect_package_manager() {
    local manager
    for manager in apt-get dnf pacman apk zypper brew; do
        if command -v "$manager" >/dev/null 2>&1; then
            say "$manager"
            return
        fi
    done
    say unknown
}

# Model and instruction sets of the CPUs here, without what changes from boot to boot (clock, number of cores).
detect_cpu() {
    if [[ "$(uname -s)" == Darwin ]]; then
        # Which of them exist depends on the processor; sysctl fails for the others.
        (sysctl machdep.cpu.brand_string machdep.cpu.features machdep.cpu.leaf7_features hw.optional 2>/dev/null || true) |
            sed '/^hw.optional.*: 0$/d' | sort
    else
        awk '/^(model name|flags|isa|Features|CPU (implementer|architecture|variant|part))[[:space:]]*:/' \
            "$SYSTEM_ROOT/proc/cpuinfo" | sort -u
    fi
}

detect_ram_kb() {
    if [[ "$(uname -s)" == Darwin ]]; then
        say "$(($(sysctl -n hw.memsize) / 1024 / 2))" # all but half of it may be taken: macOS gives no simpler number
    else
        awk '/^MemAvailable:/ {print $2}' /proc/meminfo
    fi
}

# As many compilers at once as there are cores, but no more than the memory allows at $1 KiB each.
detect_build_jobs() {
    local job_kb=$1 cores jobs
    cores=$(getconf _NPROCESSORS_ONLN)
    jobs=$(($(detect_ram_kb) / job_kb))
    ((jobs >= 1)) || jobs=1
    ((jobs <= cores)) || jobs=$cores
    say "$jobs"
}

# The command that prints SHA-256 sums: macOS has no sha256sum.
if command -v sha256sum >/dev/null; then
    readonly SHA256=(sha256sum)
else
    readonly SHA256=(shasum -a 256)
fi

absolute_path() {
    case $1 in
        /*) say "$1" ;;
        *) say "$PWD/$1" ;;
    esac
}
