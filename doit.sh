#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Run doit tasks: ./doit.sh [TASK...]; without a task: build the ISO. First installs the system packages of
# system-packages.txt that are missing, and makes .venv from the two lock files, by hash.
set -euo pipefail

fail() { printf 'doit.sh: %s\n  details: %s\n  resolution: %s\n' "$@" >&2; exit 3; } # message, details, resolution
as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }
install_locked() { .venv/bin/pip install --quiet --require-hashes --requirement "$@"; }
is_found() { if [[ $1 == /* ]]; then [[ -e $1 ]]; else command -v "$1" >/dev/null; fi; }

find_python() {
  local candidate check='import ensurepip, os, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
  for candidate in python3{,.11,.12,.13} /usr/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-3]*/bin/python3; do
    if "$candidate" -c "$check" &>/dev/null; then echo "$candidate" && return; fi
  done
  return 1
}

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

install_packages() { # group...
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

make_environment() {
  local python digest; digest=$({ pwd; cat requirements{-build,}.txt; } | sha256sum) # its scripts hold its path
  if [[ -x .venv/bin/python && $(cat .venv/lock.sha256 2>/dev/null) == "$digest" ]]; then return; fi
  find_python >/dev/null || install_packages python
  python=$(find_python) || fail "no Python serves" "3.11 or later with venv and headers" "install one, or use pyenv"
  echo "doit.sh: making .venv with $("$python" --version)"
  if [[ -e .venv/lock.sha256 ]]; then rm -rf .venv.old && mv .venv .venv.old; fi
  { "$python" -m venv --clear .venv && install_locked requirements-build.txt &&
    install_locked requirements.txt --no-build-isolation; } || {
    rm -rf .venv; [[ ! -d .venv.old ]] || mv .venv.old .venv
    fail ".venv could not be made" "pip says why, above" "let pip reach an index (pip.conf); an older one is put back"
  }
  echo "$digest" >.venv/lock.sha256 && rm -rf .venv.old
}

main() {
  local groups=(build)
  cd "$(dirname "${BASH_SOURCE[0]}")"
  PATH=$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
  if [[ " $* " =~ \ (lint|test)[:\ ] ]]; then groups+=(check); fi
  if [[ " $* " =~ \ (bench|demo|lab|soak|test)[:\ ]|\ upstream=lab\  ]]; then
    groups+=(lab)
    [[ $(go env GOVERSION 2>&1) =~ ^go1\.(2[6-9]|[3-9][0-9]) ]] ||
      fail "the lab needs Go 1.26 or later" "$(go version 2>&1)" "install it (go.dev/doc/install) and put it on PATH"
  fi
  install_packages "${groups[@]}"
  make_environment
  exec .venv/bin/python -m doit "$@"
}

main "$@"
