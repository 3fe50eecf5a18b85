# SPDX-License-Identifier: Apache-2.0
# The phases of `kubeadm init`, kubelet-start moved before the static pods: the standalone kubelet would start them.
{%- set address = pillar['caisson']['node']['control_plane_address'] %}
{%- macro phase(name, produces, renews=[], restarts='') %}
Complete kubeadm phase {{ name }}:
  caisson_kubeadm.phase_completed:
    - phase: {{ name | json }}
    - produces: {{ produces | json }}
    - renews: {{ renews | json }}
    - restarts: {{ restarts | json }}
    - failhard: true
{%- endmacro %}
include:
  - control_plane.configured
{{ phase('preflight', []) }}
{%- set server = ['/etc/kubernetes/pki/apiserver.crt', '/etc/kubernetes/pki/apiserver.key'] %}
{%- set made = ['/etc/kubernetes/pki/ca.crt', '/etc/kubernetes/pki/sa.pub', '/etc/kubernetes/pki/etcd/server.crt'] %}
{{ phase('certs all', made + server, renews=server, restarts='kube-apiserver') }}
{{ phase('kubeconfig all', ['/etc/kubernetes/admin.conf', '/etc/kubernetes/kubelet.conf']) }}

Remove standalone kubelet drop-in:
  file.absent:
    - name: /etc/systemd/system/kubelet.service.d/20-caisson-standalone.conf

Read unit files without the drop-in:
  caisson_service.unit_files_read:
    - unit: kubelet.service
    - require:
      - file: Remove standalone kubelet drop-in
{{ phase('kubelet-start', ['/var/lib/kubelet/config.yaml']) }}
{{ phase('etcd local', ['/etc/kubernetes/manifests/etcd.yaml']) }}
{{ phase('control-plane all', ['/etc/kubernetes/manifests/kube-apiserver.yaml']) }}

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
{{ phase('addon kube-proxy', [], restarts='daemonset/kube-proxy') }}
{{ phase('upload-config all', []) }}
{{ phase('mark-control-plane', []) }}
{{ phase('bootstrap-token', []) }}
{{ phase('kubelet-finalize all', []) }}
