#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Run doit tasks: ./doit.sh [TASK...]; without a task: build the ISO. First installs what system-packages.txt names
# and is missing, and makes .venv by hash: from requirements.txt, on top of it the locks of lab and tests where needed.
set -euo pipefail

fail() { printf 'doit.sh: %s\n  details: %s\n  resolution: %s\n' "$@" >&2; exit 3; } # message, details, resolution

PYTHONS=(python3{,.11,.12,.13} /usr/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-3]*/bin/python3)

find_python() { # "headers" or "python", candidate...
  local candidate check='import ensurepip, os, sys, sysconfig, venv
is_whole = sys.argv[1] != "headers" or os.path.exists(sysconfig.get_path("include") + "/Python.h")
sys.exit(sys.version_info < (3, 11) or not is_whole)'
  for candidate in "${@:2}"; do
    if "$candidate" -c "$check" "$1" &>/dev/null; then echo "$candidate" && return; fi
  done
  return 1
}

make_environment() { # "headers" or "python", lock...
  local python lock marks=.venv/lock.sha256
  if ! { grep -F "  $PWD/$2" $marks && sha256sum --check $marks && find_python "$1" .venv/bin/python; } &>/dev/null; then
    find_python "$1" "${PYTHONS[@]}" >/dev/null || tools/install-packages.sh python "$1"
    python=$(find_python "$1" "${PYTHONS[@]}") || fail "no Python serves" "3.11 or later with venv, $1" "install one, or use pyenv"
    echo "doit.sh: making .venv with $("$python" --version)"
    if [[ -e $marks ]]; then rm -rf .venv.old && mv .venv .venv.old; fi
    "$python" -m venv --clear .venv || fail ".venv could not be made" "Python says why, above" "remove the cause, then run it again"
  fi
  for lock in "${@:2}"; do
    if grep -qsF "  $PWD/$lock" $marks; then continue; fi
    .venv/bin/pip install --quiet --no-build-isolation --require-hashes --requirement "$lock" || {
      if [[ -d .venv.old ]]; then rm -rf .venv && mv .venv.old .venv; fi
      fail "$lock could not be installed" "pip says why, above" "let pip reach an index (pip.conf); an older .venv is kept"
    }
    sha256sum "$PWD/$lock" >>$marks # by its whole path: an environment that was moved does not run
  done
  if [[ -d .venv.old ]]; then rm -rf .venv.old; fi
}

main() {
  local groups=(build) locks=(requirements.txt) needs=python word
  for word; do [[ $word ]] || fail "a word is empty" "given: $(printf "'%s' " "$@")" "was a variable of the shell not set?"; done
  cd "$(dirname "${BASH_SOURCE[0]}")"
  PATH=$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
  if [[ " $* " =~ \ (lint|soak|test)[:\ ] ]]; then groups+=(check) locks+=(requirements-test.txt); fi
  if [[ " $* " =~ \ (bench|demo|lab|soak|test)[:\ ]|\ upstream=lab\  ]]; then
    groups+=(lab) locks+=(requirements-{sdist,lab}.txt) needs=headers
    [[ $(go env GOVERSION 2>&1) =~ ^go1\.(2[6-9]|[3-9][0-9]) ]] ||
      fail "the lab needs Go 1.26 or later" "$(go version 2>&1)" "install it (go.dev/doc/install) and put it on PATH"
  fi
  tools/install-packages.sh "${groups[@]}"
  make_environment $needs "${locks[@]}"
  exec .venv/bin/python -c 'import sys; sys.argv[0] = "./doit.sh"; from doit.__main__ import main; main()' "$@"
}

main "$@"
