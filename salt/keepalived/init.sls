# SPDX-License-Identifier: Apache-2.0
# The control plane's virtual address, where the site has one; a worker never has it.
include:
  - {{ ('keepalived.' ~ ('running' if salt['caisson_vip.is_shared'](pillar['caisson']) else 'absent')) | json }}
