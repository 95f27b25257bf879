# shellcheck shell=bash
# A folder of wheels that makes an installation without network: written by --download or `python -m release`, read by
# --offline and --prebuilt. Knows that both machines must agree in Python's version, system, C library and CPU, and how
# to tell when they do not.

readonly MANIFEST=appliance-wheels.txt # "NAME VALUE" lines
readonly INPUTS=appliance-build-inputs.txt
# Instruction sets that a native build may use; other flags of /proc/cpuinfo (bugs, virtualization) may differ freely.
readonly ISA_PATTERN='^(sse|ssse|avx|amx|fma|f16c|bmi|popcnt|movbe|sha|vaes|vpclmul|gfni|adx|asimd|sve|sme|i8mm|bf16|fp|atomics|crc32|aes|pmull)'

# Fills DIR with the wheel of llama.cpp (in the cache by now), ours, and everything that they need.
fill_download_step() {
    local wheel own
    wheel=$(detect_wheel)
    mkdir -p -- "$download_dir"
    rm -f -- "$download_dir/$MANIFEST" "$download_dir"/appliance-*.whl "$download_dir"/llama_cpp_python-*.whl
    "$venv_dir/bin/python" -m pip wheel --wheel-dir "$download_dir" "$wheel" "$CHECKOUT"
    own=$(cd -- "$download_dir" && ls appliance-*.whl)
    cp -- "$wheel_dir/inputs.txt" "$download_dir/$INPUTS"
    # Last: a folder with a manifest is whole.
    {
        say "python $(probe_python "$python")"
        say "system $system"
        say "machine $(uname -m)"
        say "accelerator $accelerator"
        say "key $wheel_key"
        say "own $own"
    } >"$download_dir/$MANIFEST"
}

# The value of NAME in the offline folder's manifest.
offline_value() { sed -n "s/^$1 //p" "$offline_dir/$MANIFEST"; }

# Its wheel of pip, which a release has; empty where it has none.
offline_pip() {
    local wheel
    for wheel in "$offline_dir"/pip-*.whl; do
        if [[ -n "$offline_dir" && -f "$wheel" ]]; then
            say "$wheel"
        fi
    done
}

offline_own_wheel() { say "$offline_dir/$(offline_value own)"; }

# Takes the place of decide_accelerator and decide_wheel: both were decided when the folder was filled.
decide_offline() {
    local here there
    for there in system:"$system" machine:"$(uname -m)"; do
        here=${there#*:}
        there=$(offline_value "${there%%:*}")
        [[ "$there" == "$here" ]] ||
            die 'Read the offline folder' "Its wheels are for $there, but this machine is $here." \
                'Take those for this kind of machine, or prepare them on one with --download.'
    done
    check_offline_libc
    check_offline_cpu
    accelerator=$(offline_value accelerator)
    accelerator_text="$accelerator, as prepared in ${prebuilt:-$offline_dir}"
    wheel_key=$(offline_value key)
    if ((without_amx)); then
        wheel_key=$wheel_key-no-amx
    fi
    wheel_dir=$offline_dir
    llama_version=${wheel_key%%-*}
}

check_offline_manifest() {
    [[ -f "$offline_dir/$MANIFEST" ]] ||
        die 'Read the offline folder' "$offline_dir does not contain $MANIFEST." \
            "Prepare it with ./install.sh --download $offline_dir on a machine with network access."
}

# Libraries that were linked to a glibc run with it and with newer ones.
check_offline_libc() {
    local wanted here build='Or build for this system, in a checkout: ./install.sh'
    wanted=$(offline_value libc)
    [[ -n "$wanted" ]] || return 0
    here=$(getconf GNU_LIBC_VERSION 2>/dev/null) || here=''
    if [[ "$here" != glibc\ * ]]; then
        die 'Read the offline folder' "Its wheels are for systems with glibc; this one has another C library, such as Alpine's musl." "$build"
    fi
    if [[ "$(printf '%s\n' "$wanted" "$here" | sort -V | head -n 1)" != "$wanted" ]]; then
        die 'Read the offline folder' "Its wheels need $wanted or newer, but this system has $here." 'Use a newer system.' "$build"
    fi
}

# A native build dies of an unknown instruction where the CPU has fewer of them.
check_offline_cpu() {
    local missing
    if grep -q 'GGML_NATIVE=OFF' "$offline_dir/$INPUTS"; then
        return
    fi
    missing=$(comm -23 <(isa_features <"$offline_dir/$INPUTS") <(detect_cpu | isa_features) | paste -s -d ' ' -)
    if [[ -n "$missing" ]]; then
        die 'Read the offline folder' "Its llama.cpp was built for a CPU with instructions that this one lacks: $missing." \
            'Prepare it on a machine with this CPU, or for every CPU: CMAKE_ARGS=-DGGML_NATIVE=OFF ./install.sh --download DIR'
    fi
}

isa_features() {
    sed -n -E 's/^(flags|Features|isa)[[:space:]]*: //p' | tr ' ' '\n' | grep -E "$ISA_PATTERN" | sort -u
}
