#!/usr/bin/env bash
# Builds a bundle's Containerfile with buildah on a fresh Debian, has the container answer, and asks its health check;
# fails unless each does what it should.
#
#     tests/release/container.sh dist/appliance-VERSION-linux-ARCH [SUITE] [MIRROR]
#
# As root, with buildah and debootstrap, which takes the place of a registry. Four minutes.

set -euo pipefail

readonly BASE=localhost/appliance-test-base IMAGE=localhost/appliance-test
export BUILDAH_ISOLATION=chroot # needs no namespaces and no control groups of its own

scratch=$(mktemp -d)
container=''

clean_up() {
    [[ -z "$container" ]] || buildah rm "$container" >/dev/null
    buildah rmi --force "$IMAGE" "$BASE" >/dev/null 2>&1 || true # not there where the build failed
    rm -rf --one-file-system -- "$scratch"
}
trap clean_up EXIT

fail() {
    printf '\n%s failed: %s\n' "$0" "$*" >&2
    exit 1
}

debootstrap --variant=minbase "${2:-bookworm}" "$scratch/root" ${3:+"$3"} >"$scratch/log" ||
    fail "$(tail "$scratch/log")"
base=$(buildah from scratch)
buildah add --quiet "$base" "$scratch/root" /
buildah commit --quiet --rm "$base" "$BASE"

buildah build --format docker --build-arg "BASE=$BASE" --tag "$IMAGE" "$1"
container=$(buildah from "$IMAGE")

run() { buildah run "$container" -- "$@" </dev/null; }

[[ "$(run id -u)" == 10001 ]] || fail 'it runs as another user'
! run sh -c 'command -v cc c++ gcc g++ make' 2>/dev/null || fail 'it has a compiler'
run appliance --version

# In namespaces of its own, where port 8080 is free and whatever is left over ends: serves, waits until the health check is content, asks, and ends.
export container
unshare --net --pid --fork --kill-child --mount-proc bash -s < <(
    buildah inspect --type image "$IMAGE" | python3 -c '
import json, shlex, sys

check = json.load(sys.stdin)["Docker"]["config"]["Healthcheck"]["Test"]
print("check() { run", *map(shlex.quote, check[1:]), "; }")
'
    cat <<'END'
set -euo pipefail
ip link set lo up
run() { buildah run "$container" -- "$@" </dev/null; }
run appliance serve --insecure --allowed-host localhost &
until check 2>/dev/null; do
    kill -0 $! 2>/dev/null || exit 1
    sleep 1
done
run appliance run --url http://127.0.0.1:8080 smollm2-135m 'What is the capital of Japan?' | grep Tokyo
run appliance stop
wait
END
) || fail 'it did not answer'
echo 'Built, answered, healthy.'
