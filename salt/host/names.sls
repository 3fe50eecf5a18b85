# SPDX-License-Identifier: Apache-2.0
# cloud-init and others write /etc/hosts again at each boot: what the cluster asks for is put back before it starts.
Put the cluster's names back into /etc/hosts:
  file.managed:
    - name: /etc/systemd/system/caisson-hosts.service
    - source: salt://host/files/caisson-hosts.service
    - mode: '0644'

Watch /etc/hosts:
  file.managed:
    - name: /etc/systemd/system/caisson-hosts.path
    - source: salt://host/files/caisson-hosts.path
    - mode: '0644'

Keep the cluster's names from boot on:
  service.enabled:
    - name: caisson-hosts.service
    - require:
      - file: Put the cluster's names back into /etc/hosts

Keep the cluster's names when the file changes:
  service.running:
    - name: caisson-hosts.path
    - enable: true
    - require:
      - file: Put the cluster's names back into /etc/hosts
    - watch:
      - file: Watch /etc/hosts
