#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Make requirements.txt and requirements-build.txt, with a hash for each file, from their .in files.
# Pins stay as they are unless the .in file asks for something else; with --upgrade all move.
set -euo pipefail

main() {
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  local name extra
  scratch=$(mktemp -d)  # not local: the trap needs it
  trap 'rm -rf -- "${scratch:?}"' EXIT
  python3 -m venv "$scratch/venv"
  "$scratch/venv/bin/pip" install --quiet uv
  for name in requirements requirements-build; do
    extra=()
    [[ $name == requirements ]] || extra=(--constraint requirements.txt)
    [[ ! -f $name.txt ]] || cp "$name.txt" "$scratch/$name.txt"
    "$scratch/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
      --no-annotate "${extra[@]}" "$@" --output-file "$scratch/$name.txt" "$name.in"
    { echo '# SPDX-License-Identifier: Apache-2.0'
      echo "# Made from $name.in by tools/lock-python.sh."
      sed -E "s/ and sys_platform == 'linux'//; s/ ; sys_platform == 'linux'//" "$scratch/$name.txt"; } >"$name.txt.new"
    mv "$name.txt.new" "$name.txt"
  done
}

main "$@"
