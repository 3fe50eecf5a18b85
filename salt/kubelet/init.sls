# SPDX-License-Identifier: Apache-2.0
include:
  - kubelet.installed
  - kubelet.configured
  - kubelet.standalone
