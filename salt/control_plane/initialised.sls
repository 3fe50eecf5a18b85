# SPDX-License-Identifier: Apache-2.0
# What kubeadm's `init` does once the API answers. kubelet-finalize comes first, not last: the kubelet that it starts again
# takes ten to twenty seconds to find the static pods Ready, and enters those that ran before there was an API.
{%- from 'control_plane/phase.jinja' import phase %}
{%- set address = pillar['caisson']['node']['control_plane_address'] %}
include:
  - control_plane.started

Wait for the kubelet:
  caisson_wait.url_answers:
    - url: http://127.0.0.1:10248/healthz
    - failhard: true
{%- for endpoint in ['livez', 'readyz'] %}

Wait for the API server's {{ endpoint }}:
  caisson_wait.url_answers:
    - url: {{ ('https://' ~ address ~ ':6443/' ~ endpoint) | json }}
    - ca_file: /etc/kubernetes/pki/ca.crt
    - timeout_s: 240
    - failhard: true
{%- endfor %}
{{ phase('kubelet-finalize all', []) }}
{{ phase('addon kube-proxy', [], restarts='daemonset/kube-proxy') }}
{{ phase('upload-config all', []) }}
{{ phase('mark-control-plane', []) }}
{{ phase('bootstrap-token', []) }}
