# shellcheck shell=bash
# A bundle made by `python -m release`: whole, unpacked if need be, and from then on a folder of wheels as --offline has
# it. Knows its files and sums, and nothing of what the wheels are for: that is in their manifest.

readonly SUMS=SHA256SUMS
# The back end that an AMX that does not work makes useless; the next best computes without.
readonly AMX_BACKEND=libggml-cpu-sapphirerapids.so

prebuilt='' # the bundle as it was given, a file or a folder

# A bundle that was unpacked installs from what is beside install.sh. (A checkout has no sums.)
is_bundle() { [[ -f "$1/$SUMS" && -f "$1/wheels/$MANIFEST" ]]; }

# Sets offline_dir. What is unpacked for it is gone when install.sh ends.
open_prebuilt() {
    local folder=$prebuilt unpacked
    if [[ -f "$prebuilt" ]]; then
        mkdir -p -- "$cache_dir"
        unpacked=$(mktemp -d "$cache_dir/bundle.XXXXXX")
        temporaries+=("$unpacked")
        tar -xzf "$prebuilt" -C "$unpacked" ||
            die 'Read the bundle' "$prebuilt cannot be unpacked: it is no .tar.gz, or it is not whole." 'Fetch it again.'
        for folder in "$unpacked"/*/; do break; done
        folder=${folder%/}
    fi
    is_bundle "$folder" ||
        die 'Read the bundle' "$prebuilt is no bundle: it has no $SUMS, or no wheels/$MANIFEST." \
            'Name the appliance-VERSION-linux-MACHINE.tar.gz of a release, or the folder it unpacks to.'
    check_sums "$folder"
    offline_dir=$folder/wheels
}

# Before anything in it is believed.
check_sums() {
    local wrong
    wrong=$(cd -- "$1" && { "${SHA256[@]}" -c "$SUMS" 2>/dev/null || true; } | sed -n 's/: FAILED.*$//p' | head -n 3 | paste -s -d ' ' -)
    if [[ -n "$wrong" ]]; then
        die 'Read the bundle' "Not as they were released: $wrong (their SHA-256 differs, or they are missing)." 'Fetch it again.'
    fi
}

# What --no-amx means for a llama.cpp that is built already.
leave_out_amx() { rm -f -- "$venv_dir"/lib/python*/site-packages/llama_cpp/lib/"$AMX_BACKEND"; }
