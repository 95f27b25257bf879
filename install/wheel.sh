# shellcheck shell=bash
# The wheel of llama-cpp-python: built once for this CPU, these flags and this version, and kept. Knows no environment to
# install into and nothing of our own version: an upgrade of ours builds nothing.

readonly BUILD_JOB_RAM_KB=1500000 # the hungriest translation units of llama.cpp need this much each
readonly CUDA_JOB_RAM_KB=3000000  # nvcc's, of the attention kernels
readonly NO_AMX_FLAGS='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'

# Decided by decide_wheel.
llama_version=''
cmake_args=''
wheel_key=''
wheel_dir='' # the folder that holds, or will hold, the wheel

# decide_wheel WITHOUT_AMX: which wheel this machine needs, from pyproject.toml, the accelerator and the options.
decide_wheel() {
    llama_version=$(detect_llama_version)
    cmake_args=$(compose_cmake_args "$1")
    wheel_key="$llama_version-$(uname -m)-$(detect_build_inputs | "${SHA256[@]}" | cut -c 1-12)"
    wheel_dir="$cache_dir/wheels/$wheel_key"
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

# Ours first: of two that set the same variable, CMake takes the user's.
compose_cmake_args() {
    local without_amx=$1 parts
    # Costs two files to compile, and opens nothing until --rpc or rpc-worker is used. Without RDMA, which would link
    # whatever library of it the building machine has.
    parts="-DGGML_RPC=ON -DGGML_RPC_RDMA=OFF $(accelerator_cmake_args)"
    parts=${parts% }
    if ((without_amx)); then
        parts="$parts '-DCMAKE_C_FLAGS=${CFLAGS:+$CFLAGS }$NO_AMX_FLAGS' '-DCMAKE_CXX_FLAGS=${CXXFLAGS:+$CXXFLAGS }$NO_AMX_FLAGS'"
    fi
    parts="$parts ${CMAKE_ARGS:-}"
    parts=${parts# }
    say "${parts% }"
}

# Everything that decides the bits of the built wheel, as text. The Python version is not among it: the wheel is py3-none.
detect_build_inputs() {
    say "llama-cpp-python $llama_version"
    say "machine $(uname -m) libc $("$python" -c 'import platform; print(*platform.libc_ver())')"
    say "CMAKE_ARGS=$cmake_args CC=${CC:-} CXX=${CXX:-} CFLAGS=${CFLAGS:-} CXXFLAGS=${CXXFLAGS:-}"
    if [[ "$accelerator" == cuda ]]; then
        say "nvcc $(cuda_version)"
    fi
    detect_cpu
}

# Prints the wheel's path, or fails where it is still to be built.
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

# After sudo, the wheel that the same person built before without it is as good.
adopt_sudo_wheel() {
    local home theirs
    home=$(detect_sudo_home)
    theirs="$home/.cache/appliance/wheels/$wheel_key"
    if [[ -n "$home" && -d "$theirs" ]] && ! detect_wheel >/dev/null; then
        mkdir -p -- "$cache_dir/wheels"
        cp -R -- "$theirs" "$wheel_dir"
    fi
}

# Builds into a temporary folder beside the final one, then renames: a folder with the final name holds a whole wheel.
build_wheel_step() {
    local building job_kb=$BUILD_JOB_RAM_KB
    if [[ "$accelerator" == cuda ]]; then
        job_kb=$CUDA_JOB_RAM_KB
    fi
    export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(detect_build_jobs "$job_kb")}
    export CMAKE_ARGS=$cmake_args
    mkdir -p -- "$cache_dir/wheels"
    # What a killed build left behind.
    find "$cache_dir/wheels" -maxdepth 1 -name '.building.*' -mtime +1 -exec rm -rf -- {} +
    building=$(mktemp -d "$cache_dir/wheels/.building.XXXXXX")
    # shellcheck disable=SC2064 # the folder's name is wanted as it is now
    trap "rm -rf -- $(printf '%q' "$building")" EXIT
    detect_build_inputs >"$building/inputs.txt"
    echo "CMAKE_ARGS=$CMAKE_ARGS"
    # No pip cache: its wheels are kept by version alone, and would serve another CPU's build, or other CMAKE_ARGS.
    "$venv_dir/bin/python" -m pip wheel --verbose --no-deps --no-cache-dir --no-binary llama-cpp-python \
        --wheel-dir "$building" "llama-cpp-python==$llama_version"
    chmod 755 -- "$building"
    if ! "$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$building" "$wheel_dir"; then
        detect_wheel # another installer was quicker: its wheel is as good
    fi
}

# Fails where the library was to use a GPU and finds none. In a child, as all native code.
check_gpu_step() {
    local found
    # llama_supports_gpu_offload() is always true of a library that has RPC. 1 and 2: GPUs and integrated ones.
    found=$("$venv_dir/bin/python" -I -c '
import ctypes, llama_cpp
from llama_cpp._ggml import libggml
llama_cpp.llama_backend_init()
libggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
print(any(libggml.ggml_backend_dev_by_type(kind) for kind in (1, 2)))')
    if [[ "$found" != True ]]; then
        echo "llama.cpp was built for $accelerator_text, but the library finds no GPU that it can use."
        echo 'Check that the driver works (nvidia-smi) and knows this CUDA version, or use the CPU with --cpu.'
        return 1
    fi
    echo 'The library sees a GPU.'
}
