# SPDX-License-Identifier: Apache-2.0
Install container runtime:
  caisson_package.installed:
    - packages: [container-selinux, containerd.io, cri-tools]
