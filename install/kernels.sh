# shellcheck shell=bash
# The kernels of our own: whether to build them, and what became of it. The build itself is kernels/build.py, which runs
# inside pip's; what it could not build, it says in a file. Knows no compiler.

readonly KERNELS_PLACE=appliance/llama/native

# decide_kernels WITHOUT: for every pip that builds us.
decide_kernels() {
    if (($1)); then
        export APPLIANCE_KERNELS=off
    fi
}

kernels_plan() {
    if [[ -n "$offline_dir" ]]; then
        say 'as prepared'
    elif [[ "${APPLIANCE_KERNELS:-}" == off ]]; then
        say 'left out'
    elif [[ "$system" == Linux ]]; then
        say 'will be compiled (a minute)'
    else
        say 'none for this system'
    fi
}

# What the installation has.
say_kernels() {
    local folder="$CHECKOUT/$KERNELS_PLACE" reason
    if ! ((with_dev)); then
        folder=$(say "$venv_dir"/lib/python*/site-packages/"$KERNELS_PLACE")
    fi
    if [[ -f "$folder/libappliance-kernels.so" ]]; then
        say '  ok    Kernels of our own are there'
    elif reason=$(cat -- "$folder/not-built.txt" 2>/dev/null); then
        say "  note  Without kernels of our own: $reason"
    fi
}
