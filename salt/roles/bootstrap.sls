# SPDX-License-Identifier: Apache-2.0
# What the bootstrap node is, as one list; the installer applies it part by part, in this order.
include:
  - host
  - containerd
  - images.imported
  - kubelet
  - static_pods.placed
  - images.begun
  - salt_master
  - salt_minion.connected
  - registry
  - nginx
  - firewall
  - control_plane.certified
  - images.control_plane
  - keepalived
  - control_plane.started
  - images.network_begun
  - control_plane
  - kube_proxy.names
  - addons
  - images.network
  - calico
  - cluster.ready
  - console
