# SPDX-License-Identifier: Apache-2.0
# While other work is done; what is needed is waited for where it is needed. The images of the network have their own turn
# (images.network_begun): beside these they would keep both processors from what the control plane needs to start.
{%- from 'parameters/ports.jinja' import port %}
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set caisson = pillar['caisson'] %}
{%- set first = ['keepalived'] if caisson['networks']['vip'] else [] %}
Begin to pull images of the control plane:
  caisson_pulls.started:
    - references:
      {%- for id in first + needed['control_plane'] %}
      - {{ caisson['images'][id]['reference'] | json }}
      {%- endfor %}
    - url: {{ ('https://' ~ caisson['node']['control_plane_address'] ~ ':' ~ port['media-https'] ~ '/v2/') | json }}
    - ca_file: /etc/caisson/ca.crt
