# shellcheck shell=bash
# What llama.cpp is to compute on: CPU, CUDA or Metal, with the reason. Knows no wheel and changes nothing.
#
# CUDA is wanted where --cuda says so, on a Jetson, and where both an NVIDIA GPU and a CUDA toolkit are found. Wanted and
# impossible is an error that names --cpu; only a GPU without a toolkit, on a machine that is no Jetson, is a remark.

readonly MIN_CUDA_MAJOR=11 # llama.cpp's kernels are C++17, which nvcc knows since 11.0

# Decided by decide_accelerator.
accelerator=cpu # cpu, cuda or metal
accelerator_text=''
cuda_architectures='' # as CMake wants them: 87, or 75;86; empty: whatever llama.cpp finds
nvcc=''

# decide_accelerator WISH, one of auto, cpu and cuda.
decide_accelerator() {
    local wish=$1
    case $system:$wish in
        Darwin:cuda) die 'Choose what to compute on' 'There is no CUDA on macOS. Leave out --cuda: Metal is used.' ;;
        Darwin:cpu) accelerator_text='the CPU (Metal is built in anyway: on macOS the bindings always include it)' ;;
        Darwin:*)
            accelerator=metal
            accelerator_text='Metal'
            ;;
        Linux:cpu) accelerator_text='the CPU, as requested' ;;
        Linux:*) decide_cuda "$wish" ;;
    esac
}

decide_cuda() {
    local wish=$1 gpus names version
    gpus=$(detect_gpus)
    if [[ -z "$gpus" ]]; then
        if [[ "$wish" == cuda ]]; then
            die 'Choose what to compute on' '--cuda was given, but nvidia-smi lists no NVIDIA GPU.' \
                'Install the NVIDIA driver (and restart if it was just installed), or use the CPU with --cpu.'
        fi
        accelerator_text='the CPU (no NVIDIA GPU was found)'
        return
    fi
    names=$(cut -d '|' -f 1 <<<"$gpus" | sort -u | paste -s -d , -)
    if ! nvcc=$(detect_nvcc); then
        if [[ "$wish" == cuda ]] || is_jetson; then
            die 'Choose what to compute on' "$names was found, but no CUDA toolkit: there is no nvcc." \
                "$(cuda_hint)" 'Or use the CPU with --cpu.'
        fi
        accelerator_text="the CPU ($names was found, but no CUDA toolkit)"
        remark "The GPU ($names) is not used: there is no CUDA toolkit (nvcc). $(cuda_hint)" \
            'Then run ./install.sh --cuda. (With --cpu the CPU is used without this note.)'
        return
    fi
    version=$(cuda_version)
    if ((${version%%.*} < MIN_CUDA_MAJOR)); then
        die 'Choose what to compute on' "$nvcc is CUDA $version, but llama.cpp needs $MIN_CUDA_MAJOR.0 or newer." \
            'Install a newer CUDA (on a Jetson: JetPack 5 or newer), or use the CPU with --cpu.'
    fi
    accelerator=cuda
    cuda_architectures=$(cut -d '|' -f 2 <<<"$gpus" | tr -d . | sort -un | paste -s -d ';' -)
    accelerator_text="CUDA $version for $names (compute capability $(cut -d '|' -f 2 <<<"$gpus" | sort -u | paste -s -d , -))"
    if [[ -z "$cuda_architectures" ]]; then
        accelerator_text="CUDA $version for $names"
    fi
}

is_jetson() { [[ -f "$SYSTEM_ROOT/etc/nv_tegra_release" ]]; }

# One line "NAME|COMPUTE CAPABILITY" per NVIDIA GPU; the capability is empty where the driver is too old to tell.
detect_gpus() {
    if is_jetson; then
        detect_jetson
    elif command -v nvidia-smi >/dev/null; then
        # The field compute_cap came with driver 510.
        nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null |
            sed -n 's/^ *\(.*[^ ]\) *, *\([0-9][0-9]*\.[0-9]\) *$/\1|\2/p' | grep . ||
            nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | sed -n 's/^ *\(.*[^ ]\) *$/\1|/p' || true
    fi
}

# The Jetson's GPU. By its chip: nvidia-smi, where JetPack has one at all, answers N/A there.
detect_jetson() {
    local release chip capability='' model=Jetson
    release=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' "$SYSTEM_ROOT/etc/nv_tegra_release")
    chip=$(tr '\0' '\n' <"$SYSTEM_ROOT/proc/device-tree/compatible" | sed -n 's/^nvidia,\(tegra[0-9]*\)$/\1/p' | tail -n 1)
    if [[ -r "$SYSTEM_ROOT/proc/device-tree/model" ]]; then
        model=$(tr -d '\0' <"$SYSTEM_ROOT/proc/device-tree/model")
    fi
    case $chip in
        tegra210) capability=5.3 ;;
        tegra186) capability=6.2 ;;
        tegra194) capability=7.2 ;;
        tegra234) capability=8.7 ;;
        tegra264) capability=11.0 ;;
        *)
            [[ "${CMAKE_ARGS:-}" == *CMAKE_CUDA_ARCHITECTURES=* ]] ||
                die 'Choose what to compute on' "The installer does not know this Jetson's chip: ${chip:-no tegra in the device tree}." \
                    'Give its compute capability: CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=NN ./install.sh --cuda, or use --cpu.'
            ;;
    esac
    say "$model ($(jetpack_name "${release:-0}"))|$capability"
}

# JetPack's version from Jetson Linux' (L4T): https://developer.nvidia.com/embedded/jetpack-archive
jetpack_name() {
    case ${1%%.*} in
        32) say "JetPack 4, L4T $1" ;;
        34 | 35) say "JetPack 5, L4T $1" ;;
        36) say "JetPack 6, L4T $1" ;;
        38) say "JetPack 7, L4T $1" ;;
        *) say "L4T $1" ;;
    esac
}

# The CUDA compiler: CUDACXX, on PATH, or where the toolkit's installers put it.
detect_nvcc() {
    local candidate
    for candidate in "${CUDACXX:-}" "$(command -v nvcc || true)" "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" \
        "${CUDA_PATH:+$CUDA_PATH/bin/nvcc}" "$SYSTEM_ROOT/usr/local/cuda/bin/nvcc"; do
        if [[ -n "$candidate" && -x "$candidate" ]]; then
            say "$candidate"
            return
        fi
    done
    return 1
}

# 12.6, from nvcc's "Cuda compilation tools, release 12.6, V12.6.85".
cuda_version() {
    "$nvcc" --version | sed -n 's/^.* release \([0-9]*\.[0-9]*\),.*$/\1/p' | grep . ||
        die 'Choose what to compute on' "$nvcc --version prints no release number." 'Repair the CUDA toolkit, or use --cpu.'
}

cuda_hint() {
    if is_jetson; then
        say 'Install it with: sudo apt-get install nvidia-jetpack'
    else
        say 'Install it from https://developer.nvidia.com/cuda-downloads (the toolkit only: the driver is already installed).'
    fi
}

# Compiles one kernel for each architecture, so that a toolkit too old or too new for the GPU, or for the C++ compiler, is
# told now with its own words, not after ten minutes.
check_nvcc() {
    local scratch architecture
    scratch=$(mktemp -d)
    say '__global__ void kernel(float *x) { x[threadIdx.x] += 1; }' >"$scratch/kernel.cu"
    for architecture in ${cuda_architectures//;/ }; do
        if ! "$nvcc" -std=c++17 "-arch=sm_$architecture" -c -o "$scratch/kernel.o" "$scratch/kernel.cu" >"$scratch/log" 2>&1; then
            die 'Check the CUDA compiler' "$nvcc cannot compile for this GPU (sm_$architecture):" \
                "$(head -n 3 "$scratch/log")" \
                'Install a CUDA toolkit that knows both this GPU and this C++ compiler, or use the CPU with --cpu.'
        fi
    done
    rm -rf -- "$scratch"
}

# What the accelerator adds to CMAKE_ARGS.
accelerator_cmake_args() {
    local parts
    if [[ "$accelerator" == cuda ]]; then
        parts="-DGGML_CUDA=ON '-DCMAKE_CUDA_COMPILER=$nvcc'"
        if [[ -n "$cuda_architectures" ]]; then
            parts="$parts '-DCMAKE_CUDA_ARCHITECTURES=$cuda_architectures'"
        fi
        say "$parts"
    fi
}
