#!/usr/bin/env bash
# Installs a release's Debian package in a fresh Debian without network, has it answer, installs it again, has it outlive
# its Python, removes and purges it; fails unless each does what it should. The service is started by hand: there is no
# systemd in a chroot.
#
#     tests/release/deb_in_chroot.sh dist/appliance_VERSION_ARCH.deb [SUITE] [MIRROR]
#
# As root, with debootstrap, which fetches the fresh Debian. Two minutes.

set -euo pipefail

if [[ "${1:-}" != --inside ]]; then
    deb=$(realpath -- "$1")
    scratch=$(mktemp -d)
    trap 'rm -rf --one-file-system -- "$scratch"' EXIT
    debootstrap --variant=minbase --include=adduser,python3-venv "${2:-bookworm}" "$scratch/root" ${3:+"$3"} >"$scratch/log" ||
        { tail "$scratch/log" && exit 1; }
    cp -- "$deb" "$scratch/root/appliance.deb"
    # Mounts, processes and the network of what follows end with it.
    unshare --mount --net --pid --fork --kill-child "$0" --inside "$scratch/root"
    exit
fi

root=$2
readonly SETTINGS=/etc/appliance/appliance.toml
readonly PORT=8181

fail() {
    printf '\n%s failed: %s\n' "$0" "$*" >&2
    exit 1
}

inside() { DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"; }

# As the unit runs it.
as_service() {
    inside runuser -u appliance -- env XDG_DATA_HOME=/var/lib XDG_STATE_HOME=/var/lib HOME=/var/lib/appliance \
        appliance "$@" --config "$SETTINGS" --port "$PORT"
}

# Waits for the server with process id SERVER, and prints its answer.
ask() {
    local server=$1
    until python - 2>/dev/null <<<'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/health")'; do
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.5
    done
    python - <<'END'
import json, sys, urllib.request

body = {"messages": [{"role": "user", "content": "What is the capital of Japan?"}], "temperature": 0, "max_tokens": 20}
request = urllib.request.Request(
    f"{sys.argv[1]}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
END
}

python() { inside /opt/appliance/lib/appliance/bin/python -I "$@" "http://127.0.0.1:$PORT"; }

mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
ip link set lo up

began=$SECONDS
inside dpkg --install /appliance.deb
inside appliance --version
echo "Installed in $((SECONDS - began)) s."

as_service serve >"$root/serve.log" 2>&1 &
answer=$(ask $!) || fail "no answer: $(cat "$root/serve.log")"
echo "Answered after $((SECONDS - began)) s: $answer"
[[ "$answer" == *Tokyo* ]] || fail 'that is no answer of smollm2-135m'
as_service stop
wait

echo 'port = 8282' >>"$root$SETTINGS"
inside dpkg --install /appliance.deb
[[ "$(tail -n 1 "$root$SETTINGS")" == 'port = 8282' ]] || fail 'the second installation changed the settings'

# As where an upgrade of Debian replaces python3: dpkg tells the package, and that makes the environment anew.
rm -- "$root/opt/appliance/lib/appliance/bin/python3"
inside dpkg-trigger --by-package=python3-minimal /usr/bin/python3
inside dpkg --triggers-only --pending
inside appliance --version || fail 'another python3 left it without one'

inside dpkg --remove appliance
[[ ! -e "$root/opt/appliance" && ! -e "$root/usr/lib/appliance" ]] || fail 'the environment was left'
[[ -n "$(ls "$root/var/lib/appliance")" && -f "$root$SETTINGS" ]] || fail 'state or settings were not kept'

inside dpkg --purge appliance
left=$(cd -- "$root" && find etc opt usr var -iname '*appliance*' ! -path 'var/log/*' ! -path 'var/lib/dpkg/*')
[[ -z "$left" ]] || fail "left after purging: $left"
! inside getent passwd appliance || fail 'the user was left'
echo 'Installed, answered, installed again, removed and purged.'
