# SPDX-License-Identifier: Apache-2.0
# They need nothing of each other, so all are placed before one is waited for; that is done by the phase of each.
{%- from 'parameters/registry.jinja' import image with context %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
include:
  - salt_master.placed
  - registry.configured
  - pki
  - nginx.configured
{%- for name in ['registry', 'nginx'] %}

Place {{ name }}:
  caisson_static_pod.placed:
    - name: {{ name }}
    - source: salt://{{ name }}/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods'][name] | json }}
    - image: {{ {'registry': image}.get(name) | json }}
    - require:
      - sls: {{ name }}.configured
{%- endfor %}
