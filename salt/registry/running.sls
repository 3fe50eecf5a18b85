# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/ports.jinja' import port %}
{%- from 'parameters/registry.jinja' import image with context %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
include:
  - registry.configured
  - registry.replaced

Run registry:
  caisson_static_pod.running:
    - name: registry
    - source: salt://registry/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods']['registry'] | json }}
    - image: {{ image | json }}
    - require:
      - sls: registry.configured
      - sls: registry.replaced

Wait for the registry:
  caisson_wait.url_answers:
    - url: {{ ('http://127.0.0.1:' ~ port['registry'] ~ '/') | json }}
    - timeout_s: 60
    - require:
      - caisson_static_pod: Run registry
