# SPDX-License-Identifier: Apache-2.0
include:
  - kubelet.installed

Account for the kubelet's processor and memory use:
  file.managed:
    - name: /etc/systemd/system/kubelet.service.d/11-caisson.conf
    - contents: |
        # Managed by Caisson.
        [Unit]
        After=containerd.service
        Wants=containerd.service
        [Service]
        CPUAccounting=true
        MemoryAccounting=true
    - makedirs: true
    - mode: '0644'
    - require:
      - sls: kubelet.installed

Read kubelet unit files again:
  caisson_service.unit_files_read:
    - unit: kubelet.service
    - require:
      - file: Account for the kubelet's processor and memory use
