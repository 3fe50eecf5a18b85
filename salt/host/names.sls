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

Read the unit of the cluster's names again:
  caisson_service.unit_files_read:
    - unit: caisson-hosts.service
    - require:
      - file: Put the cluster's names back into /etc/hosts

Keep the cluster's names from boot on:
  caisson_service.enabled:
    - unit: caisson-hosts.service
    - require:
      - caisson_service: Read the unit of the cluster's names again

Keep the cluster's names when the file changes:
  caisson_service.running:
    - unit: caisson-hosts.path
    - reads: [/etc/systemd/system/caisson-hosts.path]
    - require:
      - file: Put the cluster's names back into /etc/hosts
      - file: Watch /etc/hosts
