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

run() { buildah run "$container" -- "$@"; }

[[ "$(run id -u)" == 10001 ]] || fail 'it runs as another user'
! run sh -c 'command -v cc c++ gcc g++ make' || fail 'it has a compiler'
run appliance --version

# In a network of its own, where port 8080 is free: serves, waits until the health check is content, asks, and ends.
export container
health=$(buildah inspect --type image --format '{{json .Docker.Config.Healthcheck.Test}}' "$IMAGE")
unshare --net bash -s "$health" <<'END' || fail 'it did not answer'
set -euo pipefail
ip link set lo up
run() { buildah run "$container" -- "$@"; }
mapfile -t check < <(python3 -c 'import json, sys; print(*json.loads(sys.argv[1])[1:], sep="\n")' "$1")
run appliance serve --insecure --allowed-host localhost &
deadline=$((SECONDS + 300))
until run "${check[@]}" 2>/dev/null; do
    ((SECONDS < deadline)) || exit 1
    sleep 1
done
run appliance run --url http://127.0.0.1:8080 smollm2-135m 'What is the capital of Japan?' | grep Tokyo
run appliance stop
wait
END
echo 'Built, answered, healthy.'
