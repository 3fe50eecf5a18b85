# SPDX-License-Identifier: Apache-2.0
# Once the control plane's containers start, which mostly wait for each other.
{%- from 'parameters/ports.jinja' import port %}
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set caisson = pillar['caisson'] %}
Begin to pull images of the network:
  caisson_pulls.started:
    - references:
      {%- for id in needed['network'] %}
      - {{ caisson['images'][id]['reference'] | json }}
      {%- endfor %}
    - url: {{ ('https://' ~ caisson['node']['control_plane_address'] ~ ':' ~ port['media-https'] ~ '/v2/') | json }}
    - ca_file: /etc/caisson/ca.crt
