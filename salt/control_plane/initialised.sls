# SPDX-License-Identifier: Apache-2.0
# What kubeadm's `init` does once the API answers, but for kubelet-finalize (control_plane.started).
{%- from 'control_plane/phase.jinja' import phase %}
{%- from 'parameters/registry.jinja' import image with context %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
{%- set address = pillar['caisson']['node']['control_plane_address'] %}
include:
  - control_plane.started
{%- for endpoint in ['livez', 'readyz'] %}

Wait for the API server's {{ endpoint }}:
  caisson_wait.url_answers:
    - url: {{ ('https://' ~ address ~ ':6443/' ~ endpoint) | json }}
    - ca_file: /etc/kubernetes/pki/ca.crt
    - timeout_s: 240
    - failhard: true
{%- endfor %}
{%- set pods = ['salt-master', 'registry', 'nginx'] + (['keepalived'] if pillar['caisson']['networks']['vip'] else []) %}
{%- for name in pods if not salt['caisson_pod.is_entered'](name) %}

Enter {{ name }}:
  caisson_static_pod.placed:
    - name: {{ name | json }}
    - source: {{ ('salt://' ~ name | replace('-', '_') ~ '/files/pod.yaml.j2') | json }}
    - configuration_files: {{ table['static_pods'].get(name, []) | json }}
    - image: {{ {'registry': image}.get(name) | json }}
{%- endfor %}
{{ phase('addon kube-proxy', [], restarts='daemonset/kube-proxy') }}
{{ phase('upload-config all', []) }}
{{ phase('mark-control-plane', []) }}
{{ phase('bootstrap-token', []) }}
