#!/usr/bin/env bash
# Installs the appliance into a virtual environment, with llama.cpp built for this machine's CPU and GPU.
#
# Knows how to get from a checkout to a command that works. Does not know how models are chosen or served.
# Runs as any user (root for --service on Linux), with bash 3.2 or newer.
#
# This file reads the options, decides and says what is to be done, and does it in order. Its parts are in install/:
# detect_* functions only look and print what they found; decide_* functions set the variables declared at the top of
# their file; *_step functions change something, and run under run_step, which prints the step's name and time, keeps
# its output in a log, and on failure shows the end of it.

set -euo pipefail

CHECKOUT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly CHECKOUT

# shellcheck source-path=SCRIPTDIR
source "$CHECKOUT/install/report.sh"
source "$CHECKOUT/install/machine.sh"
source "$CHECKOUT/install/toolchain.sh"
source "$CHECKOUT/install/accelerator.sh"
source "$CHECKOUT/install/wheel.sh"
source "$CHECKOUT/install/kernels.sh"
source "$CHECKOUT/install/environment.sh"
source "$CHECKOUT/install/model.sh"
source "$CHECKOUT/install/offline.sh"
source "$CHECKOUT/install/prebuilt.sh"
source "$CHECKOUT/install/service.sh"
source "$CHECKOUT/install/uninstall.sh"

# Decided by parse_options.
action=install # install, plan, download or uninstall
with_purge=0
with_dev=0
with_service=0
with_self_test=1
with_model=1
without_amx=0
without_kernels=0
accelerator_wish=auto # auto, cpu or cuda
prefix=''             # empty: the environment alone, in venv_dir
venv_dir="$CHECKOUT/.venv"
download_dir=''
offline_dir=''

# Decided by prepare.
system=''
cache_dir=''
python=''
model_is_new=0 # decided by ensure_model

usage() {
    cat <<'END'
Usage: ./install.sh [options]

Builds llama.cpp for this machine (minutes the first time, then reused), installs the appliance and a small model into
a virtual environment, and checks that the machine can compute with it. Running it again is quick and brings the
installation up to date.

What to compute on (default: CUDA if there is an NVIDIA GPU and a CUDA toolkit, Metal on macOS, otherwise the CPU):
  --cpu            the CPU, whatever else there is
  --cuda           CUDA, or fail
  --no-amx         build without AMX instructions, for CPUs where they do not work (see `appliance doctor`)
  --no-kernels     leave out the kernels of our own, which are compiled in a minute and make the CPU faster

Where to (default: .venv in the checkout):
  --prefix DIR     DIR/lib/appliance, with links in DIR/bin
  --venv DIR       this virtual environment, without links
  --service        as a service that starts with the machine: systemd (as root; in /opt/appliance unless --prefix says
                   otherwise, models in /var/lib/appliance, settings in /etc/appliance), or launchd on macOS

Without a compiler and without a network:
  --prebuilt PATH  install from a release, a .tar.gz or the folder it unpacks to, made for every CPU of this kind;
                   in such a folder, this is what ./install.sh does

For a machine without network (the same kind of machine, CPU and Python):
  --download DIR   only collect all wheels in DIR, the model's too
  --offline DIR    install from the wheels in DIR

Other options:
  --dev            install the checkout itself, editable, with the test and lint tools
  --no-model       without the model that is served where none is named (SmolLM2-135M-Instruct, 98 MB):
                   novels-6m, which travels with the sources, stands in for it, and only continues prose
  --no-selftest    do not check the CPU after installing
  --dry-run        print what would be done, and do nothing
  --uninstall      remove what was installed (give the same --prefix, --venv or --service as then); models and
                   settings stay, and so do the built wheels and logs, which other installations may use
  --purge          with --uninstall: remove the built wheels and logs too
  --verbose        show the output of every step, not only of one that fails
  --help           show this text

Environment: PYTHON (interpreter to use), CC, CXX, CFLAGS, CXXFLAGS, CUDACXX, CMAKE_ARGS and CMAKE_BUILD_PARALLEL_LEVEL
(for the build of llama.cpp), PIP_* (as pip reads them), XDG_CACHE_HOME (where built wheels and logs are kept).
END
}

parse_options() {
    while (($# > 0)); do
        case $1 in
            --cpu | --cuda)
                [[ "$accelerator_wish" == auto || "--$accelerator_wish" == "$1" ]] ||
                    die 'Read the options' '--cpu and --cuda cannot be used together.'
                accelerator_wish=${1#--}
                ;;
            --no-amx) without_amx=1 ;;
            --no-kernels) without_kernels=1 ;;
            --prefix | --venv | --download | --offline | --prebuilt)
                [[ -n "${2:-}" ]] || die 'Read the options' "$1 needs a path."
                set_directory "$1" "$(absolute_path "$2")"
                shift
                ;;
            --service) with_service=1 ;;
            --dev) with_dev=1 ;;
            --no-model) with_model=0 ;;
            --no-selftest) with_self_test=0 ;;
            --dry-run) action=plan ;;
            --uninstall) action=uninstall ;;
            --purge) with_purge=1 ;;
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
    check_options
}

set_directory() {
    case $1 in
        --prefix) prefix=$2 ;;
        --venv) venv_dir=$2 ;;
        --download)
            download_dir=$2
            action=download
            ;;
        --offline) offline_dir=$2 ;;
        --prebuilt) prebuilt=$2 ;;
    esac
}

check_options() {
    if [[ -n "$prefix" && "$venv_dir" != "$CHECKOUT/.venv" ]]; then
        die 'Read the options' '--prefix and --venv cannot be used together.'
    fi
    if [[ -z "$offline_dir$download_dir$prebuilt" ]] && is_bundle "$CHECKOUT"; then
        prebuilt=$CHECKOUT
    fi
    if [[ -n "$prebuilt$offline_dir" ]] && { ((with_dev || without_kernels)) || [[ "$accelerator_wish" != auto || -n "$download_dir" ]]; }; then
        die 'Read the options' '--offline and --prebuilt install wheels as they are; they cannot be combined with --download, --dev, --cpu, --cuda or --no-kernels.'
    fi
    if [[ -n "$offline_dir" ]] && { ((without_amx)) || [[ -n "$prebuilt" ]]; }; then
        die 'Read the options' '--offline cannot be combined with --prebuilt or --no-amx.'
    fi
    if [[ -n "$download_dir" ]] && ((with_dev || with_service)); then
        die 'Read the options' '--download only fills a folder; it cannot be combined with --dev or --service.'
    fi
    if ((with_service)) && { ((with_dev)) || [[ "$venv_dir" != "$CHECKOUT/.venv" ]]; }; then
        die 'Read the options' '--service can be combined with --prefix, but not with --dev or --venv.'
    fi
    if ((with_purge)) && [[ "$action" != uninstall ]]; then
        die 'Read the options' '--purge can only be used with --uninstall.'
    fi
    if ((without_amx)) && [[ "$(uname -m)" != x86_64 ]]; then
        die 'Read the options' "--no-amx is for x86-64 only; this machine is $(uname -m)."
    fi
}

# Looks at the machine and decides; changes nothing.
prepare() {
    system=$(detect_system)
    cache_dir=$(detect_xdg XDG_CACHE_HOME .cache)/appliance
    if ((with_service)) && [[ -z "$prefix" ]]; then
        prefix=$SERVICE_PREFIX
        if [[ "$system" == Darwin ]]; then
            prefix=$HOME/.local # launchd may not enter every place where a checkout may lie
        fi
    fi
    if [[ -n "$prefix" ]]; then
        venv_dir=$prefix/lib/appliance
    fi
    if [[ "$action" != uninstall ]]; then
        prepare_build
    fi
}

prepare_build() {
    local python_wanted='' outside_homes=0
    if ((with_service)); then
        check_service_manager 'Install'
        umask 022 # another user is to run what is installed
        [[ "$system" == Darwin ]] || outside_homes=1
        if ((outside_homes)) && is_in_a_home "$prefix/"; then
            die 'Read the options' "A service cannot run from a home directory ($prefix): choose another --prefix."
        fi
    fi
    if [[ -n "$prebuilt" ]]; then
        open_prebuilt
    fi
    if [[ -n "$offline_dir" ]]; then
        check_offline_manifest
        python_wanted=$(offline_value python)
    fi
    python=$(detect_python "$python_wanted" "$outside_homes")
    decide_kernels "$without_kernels"
    if [[ -n "$offline_dir" ]]; then
        decide_offline
    else
        decide_accelerator "$accelerator_wish"
        decide_wheel "$without_amx"
    fi
}

say_plan() {
    local wheel="will be built, into $wheel_dir" target=$venv_dir
    if detect_wheel >/dev/null; then
        wheel="already built, in ${prebuilt:-$wheel_dir}"
    fi
    if [[ -n "$download_dir" ]]; then
        target="$download_dir (wheels only)"
    fi
    say "  machine     $system $(uname -m)"
    say "  computes on $accelerator_text"
    say "  python      $(python_identity "$python")"
    say "  llama.cpp   llama-cpp-python $llama_version${cmake_args:+ with $cmake_args}: $wheel"
    say "  kernels     $(kernels_plan)"
    say "  model       $(model_plan)"
    say "  installs to $target"
    if ((with_service)); then
        say "  service     $(service_file), settings in $(service_settings)"
    fi
}

# Nothing is built where the wheel is there; else the tools for it are looked at before anything is changed.
ensure_wheel() {
    if detect_wheel >/dev/null; then
        return
    fi
    adopt_sudo_wheel
    if detect_wheel >/dev/null; then
        return
    fi
    if [[ "$accelerator" == cuda ]]; then
        check_nvcc
    fi
    if ((without_amx)); then
        # shellcheck disable=SC2086 # one word per flag
        check_compilers $NO_AMX_FLAGS
    else
        check_compilers
    fi
}

build_missing_wheel() {
    if ! detect_wheel >/dev/null; then
        run_step "Build llama.cpp for this machine (llama-cpp-python $llama_version; takes minutes, only once)" build_wheel_step
    fi
}

download() {
    ensure_wheel
    venv_dir=$cache_dir/download-environment
    run_step 'Create a virtual environment for collecting' make_venv_step
    build_missing_wheel
    run_step "Collect the wheels in $download_dir" fill_download_step
    if ((with_model)); then
        collect_model
    fi
    rm -rf -- "$venv_dir"
    say "Ready. On the other machine: ./install.sh --offline $download_dir"
    say_remarks
}

install() {
    local is_new=0
    if is_installed; then
        say "  ok    The appliance in $venv_dir is up to date"
    else
        is_new=1
        ensure_wheel
        run_step 'Create the virtual environment' make_venv_step
        build_missing_wheel
        run_step 'Install the appliance' install_step
        say_kernels
        if [[ -n "$prefix" ]]; then
            run_step "Link the commands into $prefix/bin" link_step
        fi
    fi
    if ((with_model)); then
        ensure_model
    fi
    if [[ "$accelerator" == cuda ]]; then
        run_step 'Check that the library uses the GPU' check_gpu_step
    fi
    if ((with_service)); then
        run_step 'Prepare the settings and the user of the service' prepare_service_step
    fi
    if ((with_self_test)); then
        self_test "$is_new"
    fi
    if ((with_service)); then
        serve_as_service "$is_new"
    elif [[ -n "$prefix" ]]; then
        say "Installed. Start it with: $prefix/bin/appliance serve"
    else
        say "Installed. Start it with: $venv_dir/bin/appliance serve"
        say "To write only 'appliance' in this shell: source $venv_dir/bin/activate"
    fi
    say_remarks
}

serve_as_service() {
    local is_new=$1
    if ((is_new || model_is_new)) || ! is_service_current; then
        run_step 'Start the service' start_service_step
    fi
    run_step 'Wait until the service answers' await_health_step
    say "Installed, and running as a service. Settings: $(service_settings); log: $(service_log_hint)"
}

# Once per installation, which is made anew when the CPU changes; `appliance doctor` looks again at any time.
self_test() {
    local is_new=$1 findings="$venv_dir/.appliance-doctor.json"
    if ((is_new)) || [[ ! -f "$findings" ]]; then
        run_step 'Check that this machine computes correctly' self_test_step "$findings"
    else
        say '  ok    This machine computes correctly (checked before)'
    fi
    advise_no_amx "$findings"
}

# The doctor's findings go to FILE, which is there only if they are good. Where they are not, the doctor says them once
# more as a table that a person reads.
self_test_step() {
    local file=$1 run=()
    rm -f -- "$file"
    if ((with_service)); then
        run=(as_service_user)
    fi
    if ! ${run[@]+"${run[@]}"} "$venv_dir/bin/appliance" doctor --json >"$file.new"; then
        ${run[@]+"${run[@]}"} "$venv_dir/bin/appliance" doctor
        return
    fi
    mv -f -- "$file.new" "$file"
}

advise_no_amx() {
    local advised=False
    if [[ -f "$1" ]]; then
        advised=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1])).get("amx_free_build_advised") is True)' "$1")
    fi
    if [[ "$advised" == True ]] && ! ((without_amx)); then
        remark "AMX does not work on this machine, and a llama.cpp built without it would be faster here:" \
            "run install.sh again with --no-amx (this takes minutes)."
    fi
}

main() {
    trap on_exit EXIT
    parse_options "$@"
    prepare
    if [[ "$action" == uninstall ]]; then
        uninstall
        return
    fi
    say_plan
    case $action in
        plan) say_remarks ;;
        download)
            open_log "$cache_dir/logs"
            download
            ;;
        install)
            open_log "$cache_dir/logs"
            install
            ;;
    esac
}

# Sourced (by the tests), this file only defines its functions.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    main "$@"
fi
