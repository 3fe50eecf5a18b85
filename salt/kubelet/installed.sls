# SPDX-License-Identifier: Apache-2.0
Install kubelet and what it calls:
  caisson_package.installed:
    - packages:
      - kubelet
      - kubeadm
      - kubectl
      - kubernetes-cni
      - conntrack-tools
      - ebtables
      - ethtool
      - iproute-tc
      - nftables
      - socat
