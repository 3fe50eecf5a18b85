# SPDX-License-Identifier: Apache-2.0
# After all else that is applied with it: what failed before is told again.
# On a node that joins for the first time no kube-proxy runs yet: it starts with the names as they are.
{%- set caisson = pillar['caisson'] %}
Let kube-proxy find them too:
  caisson_names.known_to_pods:
    - app: kube-proxy

Note what this node was told:
  file.managed:
    - name: /var/lib/caisson/told
    - contents: {{ salt['caisson_installer.call']('installer.engine.nodepillar', 'digest', caisson) | json }}
    - mode: '0600'
    - makedirs: true
    - order: last
    - require:
      - caisson_names: Let kube-proxy find them too
