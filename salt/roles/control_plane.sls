# SPDX-License-Identifier: Apache-2.0
# What a further control plane is, as one list; 'caisson node add' applies it part by part, in this order.
include:
  - host
  - containerd
  - images.node_begun
  - kubelet.installed
  - kubelet.configured
  - firewall
  - images.node
  - kubelet.joined
  - keepalived
  - cluster.noted
  - console.running
