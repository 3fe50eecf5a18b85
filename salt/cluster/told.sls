# SPDX-License-Identifier: Apache-2.0
# What changes on a node when the cluster gets a control plane, or loses one, or one that serves packages and images. Last
# it is noted: who tells asks for that.
{%- set caisson = pillar['caisson'] %}
include:
{%- if caisson['node']['role'] != 'worker' %}
  - firewall.ports
  - keepalived
{%- endif %}
  - containerd.mirrors
  - cluster.noted

Let dnf know who serves packages:
  caisson_package.repository_known: []

Find the control planes behind the endpoint's name:
  caisson_names.known:
    - require_in:
      - caisson_names: Let kube-proxy find them too

Note it after all that it is about:
  test.nop:
    - require:
      - caisson_names: Let kube-proxy find them too
      - sls: containerd.mirrors
      - caisson_package: Let dnf know who serves packages
{%- if caisson['node']['role'] != 'worker' %}
      - caisson_firewall: Load the port table into firewalld
      - sls: {{ ('keepalived.' ~ ('running' if salt['caisson_vip.is_shared'](caisson) else 'absent')) | json }}
{%- endif %}
    - require_in:
      - file: Note what this node was told
