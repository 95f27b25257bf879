#!/usr/bin/env bash
# Unpacks Debian's Python for aarch64 into build/aarch64-python, where tests/release/test_aarch64.py runs it in emulation.
# Installs nothing, and needs no root. Asks where this machine's own packages come from: Debian 12.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
mkdir -p "$scratch"/{lists/partial,cache/archives/partial,root}
: >"$scratch/status"
cat >"$scratch/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Debug::NoLocking "true";
Dir::State::lists "$scratch/lists";
Dir::State::status "$scratch/status";
Dir::Cache "$scratch/cache";
END
export APT_CONFIG=$scratch/apt.conf
apt-get -qq update
apt-get -qq --yes --download-only --no-install-recommends install python3.11 libstdc++6
for deb in "$scratch"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$scratch/root"; done
mkdir -p build
rm -rf build/aarch64-python
mv "$scratch/root" build/aarch64-python
