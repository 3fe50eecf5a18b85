# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/ports.jinja' import port %}
{%- set caisson = pillar['caisson'] %}
Apply Calico's manifest:
  caisson_kubernetes.calico_applied:
    - source: {{ (caisson['media_dir'] ~ '/' ~ caisson['manifests']['calico']['path']) | json }}
    - pod_cidr: {{ caisson['networks']['pods'] | json }}
    - workload_cidrs: {{ caisson['networks']['workload_plane'] | json }}
    - service_url: {{ ('http://127.0.0.1:' ~ port['kube-proxy-healthz'] ~ '/healthz') | json }}
    - node: {{ caisson['node']['name'] | json }}
