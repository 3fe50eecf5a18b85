#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Make requirements.txt from the dependencies of pyproject.toml, and requirements-NAME.txt from each of its groups,
# with a hash for each file. Pins stay as they are unless pyproject.toml asks for something else; with --upgrade all
# move. What two locks share has one version: all are taken from one solution.
set -euo pipefail

GROUPS_LOCKED=(sdist lab test)

compile() { # output argument...
  "$scratch/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate --output-file "$@"
}

write_lock() { # file what
  { echo '# SPDX-License-Identifier: Apache-2.0'
    echo "# Made from $2 of pyproject.toml by tools/lock-python.sh."
    sed -E "s/ and sys_platform == 'linux'//; s/ ; sys_platform == 'linux'//" "$scratch/$1"; } >"$1.new"
  mv "$1.new" "$1"
}

main() {
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  local name
  scratch=$(mktemp -d)  # not local: the trap needs it
  trap 'rm -rf -- "${scratch:?}"' EXIT
  python3 -m venv "$scratch/venv"
  "$scratch/venv/bin/pip" install --quiet uv
  cat requirements*.txt 2>/dev/null | grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' | sort -u >"$scratch/all.txt" || true
  compile "$scratch/all.txt" "$@" "${GROUPS_LOCKED[@]/#/--group=}" pyproject.toml
  compile "$scratch/requirements.txt" --constraint "$scratch/all.txt" pyproject.toml
  write_lock requirements.txt dependencies
  for name in "${GROUPS_LOCKED[@]}"; do
    compile "$scratch/requirements-$name.txt" --constraint "$scratch/all.txt" --group "$name"
    write_lock "requirements-$name.txt" "group '$name'"
  done
}

main "$@"
