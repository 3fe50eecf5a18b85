# SPDX-License-Identifier: Apache-2.0
base:
  '*':
    - {{ ('roles.' ~ pillar['caisson']['node']['role'] | replace('-', '_')) | json }}
