#!/usr/bin/env bash
# Installs a release into a scratch prefix, without network where this user may do that, has it answer once, and takes it
# away; fails unless each does what it should, in time.
#
# tests/install/from_bundle.sh dist/appliance-VERSION-linux-MACHINE.tar.gz

set -euo pipefail

readonly INSTALL_LIMIT_S=30 # with the check of the CPU
readonly ANSWER_LIMIT_S=60  # from the archive to the first answer

bundle=$(realpath -- "$1")
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
export XDG_CACHE_HOME=$scratch/cache XDG_DATA_HOME=$scratch/data XDG_STATE_HOME=$scratch/state
readonly PREFIX=$scratch/prefix

fail() {
    printf '\n%s failed: %s\n' "$0" "$*" >&2
    exit 1
}

# A name space of its own has no network but the loopback, which has to be switched on for the server.
offline=()
if ((EUID == 0)) && unshare --net true 2>/dev/null; then
    # shellcheck disable=SC2016 # the inner shell expands it
    offline=(unshare --net sh -c 'ip link set lo up && exec "$@"' sh)
fi

cd -- "$scratch"
began=$SECONDS
tar -xzf "$bundle"
cd -- appliance-*/
${offline[@]+"${offline[@]}"} ./install.sh --prefix "$PREFIX"
installed_s=$((SECONDS - began))
"$PREFIX/bin/appliance" doctor 2>/dev/null | grep -A 1 'CPU back end' || fail 'the doctor names no back end'

began_answer=$SECONDS
answer=$(${offline[@]+"${offline[@]}"} "$PREFIX/bin/appliance" run smollm2-135m 'What is the capital of France?')
answer_s=$((SECONDS - began_answer + installed_s))
[[ "$answer" == *Paris* ]] || fail "it answers: $answer"

./install.sh --uninstall --purge --prefix "$PREFIX"
[[ ! -e "$PREFIX" ]] || fail "left in the prefix: $(find "$PREFIX")"
((installed_s <= INSTALL_LIMIT_S)) || fail "installing took $installed_s s"
((answer_s <= ANSWER_LIMIT_S)) || fail "the first answer took $answer_s s"
echo "Installed in $installed_s s, answered after $answer_s s, and uninstalled."
