#!/usr/bin/env bash
# Installs into a scratch prefix from nothing, again over it, and takes it away; fails unless each does what it should.
#
# Really builds and installs (no fakes), but takes the wheel of llama.cpp from the user's cache where it is there; the
# cache, the models and the state that this run makes are scratch as well.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

readonly AGAIN_LIMIT_S=60 # of which the check of the CPU is most

users_cache=${XDG_CACHE_HOME:-$HOME/.cache}/appliance
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
export XDG_CACHE_HOME=$scratch/cache XDG_DATA_HOME=$scratch/data XDG_STATE_HOME=$scratch/state
readonly PREFIX=$scratch/prefix

fail() {
    printf '\n%s failed: %s\n' "$0" "$*" >&2
    exit 1
}

mkdir -p -- "$XDG_CACHE_HOME/appliance"
if [[ -d "$users_cache/wheels" ]]; then
    cp -R -- "$users_cache/wheels" "$XDG_CACHE_HOME/appliance/"
fi

./install.sh --prefix "$PREFIX" --no-model
"$PREFIX/bin/appliance" --version
[[ -f $(echo "$PREFIX"/lib/appliance/lib/python*/site-packages/appliance/llama/native/libappliance-kernels.so) ]] ||
    fail 'the kernels were not built'
"$PREFIX/bin/appliance-convert" --help >/dev/null
"$PREFIX/bin/appliance" fit >"$scratch/fit" 2>&1
grep -q '^smollm2-135m is not installed, so this takes novels-6m' "$scratch/fit" ||
    fail "without the model, fit says: $(cat "$scratch/fit")"
grep -q '^Model: novels-6m,' "$scratch/fit" || fail 'novels-6m does not stand in for the model'

began=$SECONDS
./install.sh --prefix "$PREFIX" | tee "$scratch/again"
grep -q 'is up to date' "$scratch/again" || fail 'the second run did not find the first'
grep -q 'ok    Fetch the model' "$scratch/again" || fail 'the second run did not fetch the model'
"$PREFIX/bin/appliance" fit | grep -q '^Model: smollm2-135m,' || fail 'the model is not the default'
((SECONDS - began <= AGAIN_LIMIT_S)) || fail "the second run took $((SECONDS - began)) s"

./install.sh --uninstall --purge --prefix "$PREFIX"
[[ ! -e "$PREFIX" ]] || fail "left in the prefix: $(find "$PREFIX")"
left=$(find "$scratch" -mindepth 2 -type f ! -path "$XDG_DATA_HOME/appliance/models/*")
[[ -z "$left" ]] || fail "left besides models: $left"
echo 'Installed from nothing, again, and uninstalled.'
