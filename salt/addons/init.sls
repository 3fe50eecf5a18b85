# SPDX-License-Identifier: Apache-2.0
Complete kubeadm phase addon all:
  caisson_kubeadm.phase_completed:
    - phase: addon all

Keep CoreDNS from asking outside:
  caisson_kubernetes.corefile_fits:
    - nameservers: {{ pillar['caisson']['nameservers'] | json }}
    - require:
      - caisson_kubeadm: Complete kubeadm phase addon all
