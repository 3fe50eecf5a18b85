# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/ports.jinja' import port as ports %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
{%- set address = pillar['caisson']['node']['control_plane_address'] %}
include:
  - salt_master.configured

Run salt-master:
  caisson_static_pod.running:
    - name: salt-master
    - source: salt://salt_master/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods']['salt-master'] | json }}
    - require:
      - sls: salt_master.configured
{%- for port in [ports['salt-publish'], ports['salt-return']] %}

Wait for salt-master on port {{ port }}:
  caisson_wait.port_accepts:
    - host: {{ address | json }}
    - port: {{ port | json }}
    - timeout_s: 180
    - require:
      - caisson_static_pod: Run salt-master
{%- endfor %}
