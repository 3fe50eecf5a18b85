# SPDX-License-Identifier: Apache-2.0
Wait until all that was applied is Ready:
  caisson_kubernetes.applied_ready:
    - node: {{ pillar['caisson']['node']['name'] | json }}
    - timeout_s: 300
