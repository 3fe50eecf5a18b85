# SPDX-License-Identifier: Apache-2.0
Complete kubeadm phase addon kube-proxy:
  caisson_kubeadm.phase_completed:
    - phase: addon kube-proxy
    - restarts: daemonset/kube-proxy

Complete kubeadm phase addon coredns:
  caisson_kubeadm.phase_completed:
    - phase: addon coredns

Keep CoreDNS from asking outside:
  caisson_kubernetes.corefile_fits:
    - nameservers: {{ pillar['caisson']['nameservers'] | json }}
    - require:
      - caisson_kubeadm: Complete kubeadm phase addon coredns

# Calico's first call to the API goes to a service address: without kube-proxy it would leave by the default route.
Wait for kube-proxy:
  caisson_wait.url_answers:
    - url: http://127.0.0.1:10256/healthz
    - timeout_s: 120
    - require:
      - caisson_kubeadm: Complete kubeadm phase addon kube-proxy
