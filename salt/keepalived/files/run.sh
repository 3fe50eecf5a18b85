#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Written by Caisson. Runs keepalived; tells it to read its configuration again when that has changed, which moves nothing;
# and starts it at once again when somebody kills it: what was killed leaves the address on the interface, and only the
# next one takes it off. The kubelet would let ten seconds pass.
set -euo pipefail

readonly CONFIGURATION_FILE=/etc/keepalived/keepalived.conf
readonly RUN_DIR=/run/keepalived

main() {
  local is_ending='' child known
  trap 'is_ending=yes; kill -TERM "${child}" || true' TERM INT
  while [[ -z "${is_ending}" ]]; do
    known="$(< "${CONFIGURATION_FILE}")"
    rm -f "${RUN_DIR}"/*.pid
    /usr/sbin/keepalived --dont-fork --log-console --vrrp --use-file="${CONFIGURATION_FILE}" \
      --pid="${RUN_DIR}/keepalived.pid" --vrrp_pid="${RUN_DIR}/vrrp.pid" &
    child=$!
    while kill -0 "${child}" 2> /dev/null; do
      sleep 1 &
      wait -n "${child}" "$!" || true
      if [[ -z "${is_ending}" && "${known}" != "$(< "${CONFIGURATION_FILE}")" ]]; then
        known="$(< "${CONFIGURATION_FILE}")"
        kill -HUP "${child}" || true
      fi
    done
    # One that cannot start is not tried without a pause.
    [[ -n "${is_ending}" ]] || sleep 0.5
  done
}

main "$@"
