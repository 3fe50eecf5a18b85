# SPDX-License-Identifier: Apache-2.0
include:
  - firewall.ports
  - firewall.guard
