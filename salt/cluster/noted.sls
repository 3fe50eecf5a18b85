# SPDX-License-Identifier: Apache-2.0
# After all else that is applied with it: what failed before is told again.
{%- set caisson = pillar['caisson'] %}
Note what this node was told:
  file.managed:
    - name: /var/lib/caisson/told
    - contents: {{ salt['caisson_installer.call']('installer.engine.nodepillar', 'digest', caisson) | json }}
    - mode: '0600'
    - makedirs: true
    - order: last
