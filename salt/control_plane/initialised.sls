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
  - control_plane.examined
  - control_plane.configured
{{ phase('preflight', []) }}
{%- set server = ['/etc/kubernetes/pki/apiserver.crt', '/etc/kubernetes/pki/apiserver.key'] %}
{#- Without super-admin.conf: a site does well to lock it away. #}
{%- set users, manifests = [], [] %}
{%- for name in ['admin', 'kubelet', 'controller-manager', 'scheduler'] %}{% do users.append('/etc/kubernetes/' ~ name ~ '.conf') %}{% endfor %}
{%- for name in ['apiserver', 'controller-manager', 'scheduler'] %}{% do manifests.append('/etc/kubernetes/manifests/kube-' ~ name ~ '.yaml') %}{% endfor %}
{{ phase('certs all', salt['caisson_kubeadm.certificate_files'](), renews=server, restarts='kube-apiserver') }}
{{ phase('kubeconfig all', users) }}

Remove standalone kubelet drop-in:
  file.absent:
    - name: /etc/systemd/system/kubelet.service.d/20-caisson-standalone.conf

Read unit files without the drop-in:
  caisson_service.unit_files_read:
    - unit: kubelet.service
    - require:
      - file: Remove standalone kubelet drop-in
{{ phase('kubelet-start', ['/var/lib/kubelet/config.yaml', '/var/lib/kubelet/kubeadm-flags.env']) }}
{{ phase('etcd local', ['/etc/kubernetes/manifests/etcd.yaml']) }}
{{ phase('control-plane all', manifests) }}

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
