#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Install the packages of some groups of system-packages.txt that are missing. doit.sh calls this.
set -euo pipefail

fail() { printf 'doit.sh: %s\n  details: %s\n  resolution: %s\n' "$@" >&2; exit 3; } # message, details, resolution
as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }
is_found() { if [[ $1 == /* ]]; then [[ -e $1 ]]; else command -v "$1" >/dev/null; fi; }

# A subshell: its trap must not outlive it. Debian starts the services that it installs; policy-rc.d is its way
# to say no, and nginx must not come up at the next boot either: the lab starts one of its own.
apt_install() (
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 0755 /dev/stdin "$policy"
  fi
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
  if [[ " $* " == *" nginx-light "* ]]; then as_root update-rc.d nginx disable; fi
)

main() { # group...
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  local group probe apt_name dnf_name names=() manager=''
  if is_found apt-get; then manager=apt; elif is_found dnf; then manager=dnf; fi
  while read -r group probe apt_name dnf_name; do
    if [[ " $* " != *" $group "* ]] || is_found "$probe"; then continue; fi
    [[ $manager != dnf ]] || apt_name=$dnf_name
    if [[ " ${names[*]} " != *" $apt_name "* ]]; then names+=("$apt_name"); fi
  done <system-packages.txt
  ((${#names[@]})) || return 0
  [[ $manager ]] || fail "system packages are missing" "${names[*]}" "install them: neither apt-get nor dnf is here"
  echo "doit.sh: installing with $manager: ${names[*]}"
  if [[ -t 0 && -t 1 ]]; then read -rp "doit.sh: Enter goes on, Ctrl-C stops " _; fi
  if [[ $manager == dnf ]]; then as_root dnf install -y "${names[@]}"; else apt_install "${names[@]}"; fi
}

main "$@"
