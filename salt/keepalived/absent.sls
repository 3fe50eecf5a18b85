# SPDX-License-Identifier: Apache-2.0
Remove the pod of keepalived:
  file.absent:
    - name: /etc/kubernetes/manifests/keepalived.yaml

Remove keepalived's configuration:
  file.absent:
    - name: /etc/caisson/keepalived
    - require:
      - file: Remove the pod of keepalived
