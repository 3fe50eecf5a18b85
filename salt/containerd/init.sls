# SPDX-License-Identifier: Apache-2.0
include:
  - containerd.installed
  - containerd.configured
  - containerd.running
