# SPDX-License-Identifier: Apache-2.0
# kube-proxy is applied before, as soon as the API server answers: what it takes to start is waited for by Calico.
Complete kubeadm phase addon coredns:
  caisson_kubeadm.phase_completed:
    - phase: addon coredns

Keep CoreDNS from asking outside:
  caisson_kubernetes.corefile_fits:
    - nameservers: {{ pillar['caisson']['nameservers'] | json }}
    - unless: [{fun: caisson_kubeadm.is_left_alone}]
    - require:
      - caisson_kubeadm: Complete kubeadm phase addon coredns
