# SPDX-License-Identifier: Apache-2.0
# While kubelet and firewall are set up; images.node waits for them. A further node has no media mounted: even the first of
# its images is pulled.
{%- from 'parameters/ports.jinja' import port %}
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set caisson = pillar['caisson'] %}
{%- set wanted = needed['node'] + needed['further'].get(caisson['node']['role'], []) %}
include:
  - containerd.running

Begin to pull images of the node:
  caisson_pulls.started:
    - references:
      {%- for id in wanted %}
      - {{ caisson['images'][id]['reference'] | json }}
      {%- endfor %}
    - url: {{ ('https://' ~ caisson['media_servers'][0]['address'] ~ ':' ~ port['media-https'] ~ '/v2/') | json }}
    - ca_file: /etc/caisson/ca.crt
    - require:
      - sls: containerd.running
