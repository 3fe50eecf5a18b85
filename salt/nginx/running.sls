# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/ports.jinja' import port %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
{%- set node = pillar['caisson']['node'] %}
include:
  - nginx.configured

Run nginx:
  caisson_static_pod.running:
    - name: nginx
    - source: salt://nginx/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods']['nginx'] | json }}
    - require:
      - sls: nginx.configured

Wait for nginx:
  caisson_wait.url_answers:
    - url: {{ ('https://' ~ node['control_plane_address'] ~ ':' ~ port['media-https'] ~ '/v2/') | json }}
    - ca_file: /etc/caisson/ca.crt
    - timeout_s: 60
    - require:
      - caisson_static_pod: Run nginx
