# SPDX-License-Identifier: Apache-2.0
Wait until every node and pod is Ready:
  caisson_kubernetes.everything_ready:
    - timeout_s: 300
