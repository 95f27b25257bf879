# shellcheck shell=bash
# Python and the C and C++ compilers: which to use, and the exact package where one is missing. Knows no GPU.

readonly MIN_PYTHON_MINOR=10 # Python 3.10, as pyproject.toml's requires-python

# Whether the command runs, is Python 3.10 or newer, and can make virtual environments. Prints 3.MINOR either way. (Debian
# has ensurepip in a package of its own; it is not needed where the offline folder brings pip.)
probe_python() {
    local maker=ensurepip
    if [[ -n "$(offline_pip)" ]]; then
        maker=venv
    fi
    "$1" - "$MIN_PYTHON_MINOR" "$maker" 2>/dev/null <<'END'
import importlib, sys
print("%d.%d" % sys.version_info[:2])
if sys.version_info < (3, int(sys.argv[1])):
    sys.exit(3)
try:
    import venv
    importlib.import_module(sys.argv[2])
except ImportError:
    sys.exit(4)
END
}

# Version and home of the interpreter behind a command or a virtual environment; two equal ones are the same Python.
python_identity() {
    "$1" -I -c 'import os, sys; print("%d.%d.%d" % sys.version_info[:3], os.path.realpath(sys.base_prefix))'
}

# A service's own user may enter no home directory.
is_in_a_home() {
    case $1 in
        /home/* | /root/* | /run/user/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Prints the first usable interpreter: PYTHON alone if set, else python3, else the newest python3.N. With $1 (versions
# such as "3.11 3.12") only those; with $2 (1) none that lies in a home directory.
detect_python() {
    local wanted=${1:-} outside_homes=${2:-0} candidate version status home without_venv='' too_old='' other='' in_home=''
    local candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
    if [[ -n "${PYTHON:-}" ]]; then
        candidates=("$PYTHON")
    elif ((outside_homes)); then
        candidates=("${candidates[@]}" "$SYSTEM_ROOT/usr/bin/python3") # behind one that a version manager put on PATH
    fi
    for candidate in "${candidates[@]}"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        status=0
        version=$(probe_python "$candidate") || status=$?
        if ((status == 0)); then
            home=$(python_identity "$candidate")
            if [[ -n "$wanted" && " $wanted " != *" $version "* ]]; then
                other=${other:-"$candidate is Python $version"}
            elif ((outside_homes)) && is_in_a_home "${home#* }"; then
                in_home=${in_home:-"$candidate is ${home#* }"}
            else
                command -v "$candidate"
                return
            fi
        fi
        case $status in
            3) too_old=${too_old:-"$candidate is Python $version"} ;;
            4) without_venv=${without_venv:-$version} ;;
        esac
    done
    if [[ -n "$without_venv" ]]; then
        die 'Check Python' "Python $without_venv has no venv module with pip." "$(install_hint venv "$without_venv")"
    fi
    if [[ -n "$in_home" ]]; then
        die 'Check Python' "A service cannot use a Python inside a home directory ($in_home)." \
            "$(install_hint python)" 'Or choose another one: PYTHON=/usr/bin/python3 ./install.sh --service'
    fi
    if [[ -n "$other" ]]; then
        die 'Check Python' "The wheels were prepared for Python ${wanted// /, }, but $other." \
            "Install Python ${wanted##* }, or prepare them again with: PYTHON=python${other##* } ./install.sh --download DIR"
    fi
    if [[ -n "${PYTHON:-}" ]]; then
        die 'Check Python' "PYTHON=$PYTHON is not a usable Python 3.$MIN_PYTHON_MINOR or newer. ${too_old:+($too_old.)}"
    fi
    die 'Check Python' "No Python 3.$MIN_PYTHON_MINOR or newer was found. ${too_old:+($too_old.)}" \
        "$(install_hint python)" 'Or choose an interpreter: PYTHON=/path/to/python3 ./install.sh'
}

# check_compilers FLAGS...: fails unless C and C++ programs that use the standard library can be built with FLAGS. cmake
# and ninja are not looked for: where they are missing or too old, the build of llama-cpp-python takes them from pip.
check_compilers() {
    local pair language name tool header scratch
    scratch=$(mktemp -d)
    for pair in "c:C:${CC:-}" "c++:C++:${CXX:-}"; do
        IFS=: read -r language name tool <<<"$pair"
        if [[ -z "$tool" ]]; then
            tool=$(find_compiler "$language") ||
                die 'Check the compiler' "No $name compiler was found." "$(install_hint compiler)"
        fi
        header=stdio.h
        if [[ "$language" == c++ ]]; then
            header=vector
        fi
        printf '#include <%s>\nint main(void) { return 0; }\n' "$header" >"$scratch/source"
        # Unquoted: CC="ccache gcc" is a command and its argument.
        # shellcheck disable=SC2086
        $tool "$@" -x "$language" -o "$scratch/out" "$scratch/source" >"$scratch/log" 2>&1 ||
            die 'Check the compiler' "$tool${*:+ $*} cannot build a small $name program: $(head -n 1 "$scratch/log")" \
                "$(install_hint compiler)"
    done
    rm -rf -- "$scratch"
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
    if [[ "$(uname -s):$need" == Darwin:compiler ]]; then
        say 'Install it with: xcode-select --install'
        return
    fi
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
        brew:python | brew:venv) packages='python@3.12' ;;
        *:compiler) packages='a C and a C++ compiler' ;;
        *) packages="Python 3.$MIN_PYTHON_MINOR or newer with its venv module" ;;
    esac
    case $manager in
        apt-get | dnf | zypper | brew) command="$manager install" ;;
        pacman) command='pacman -S' ;;
        apk) command='apk add' ;;
        *)
            say "Install $packages with this system's package manager, then run install.sh again."
            return
            ;;
    esac
    if ((EUID != 0)) && [[ "$manager" != brew ]]; then
        command="sudo $command"
    fi
    say "Install it with: $command $packages"
}
