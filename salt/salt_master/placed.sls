# SPDX-License-Identifier: Apache-2.0
{%- import_yaml 'parameters/static_pods.yaml' as table %}
include:
  - salt_master.configured

Place salt-master:
  caisson_static_pod.placed:
    - name: salt-master
    - source: salt://salt_master/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods']['salt-master'] | json }}
    - require:
      - sls: salt_master.configured
