#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Start Caisson's installer from the directory that this file is in, with the Python of the host.
set -euo pipefail

main() {
  local here python
  here="$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)"
  for python in /usr/libexec/platform-python python3; do
    if "${python}" -I -S -B -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
      exec "${python}" -I -S -B -X utf8 "${here}/installer" --program bootstrap.sh "$@"
    fi
  done
  echo "error: CSE012 there is no Python 3.9 or newer on this host
  tried /usr/libexec/platform-python and python3
  -> EL9 has it in the package platform-python (python3): install that, then start this again" >&2
  exit 12
}

main "$@"
