# SPDX-License-Identifier: Apache-2.0
# The kubelet is taken over before the static pods are placed: the standalone kubelet would start them. It is finalized
# before them, too: one that is started again beside them asks for their health ten seconds later. Its client certificate
# is in place as soon as it answers.
{%- from 'control_plane/phase.jinja' import phase %}
{%- set manifests = [] %}
{%- for name in ['apiserver', 'controller-manager', 'scheduler'] %}{% do manifests.append('/etc/kubernetes/manifests/kube-' ~ name ~ '.yaml') %}{% endfor %}
include:
  - control_plane.certified
{{ phase('preflight', []) }}

Remove standalone kubelet drop-in:
  file.absent:
    - name: /etc/systemd/system/kubelet.service.d/20-caisson-standalone.conf

Read unit files without the drop-in:
  caisson_service.unit_files_read:
    - unit: kubelet.service
    - require:
      - file: Remove standalone kubelet drop-in
{{ phase('kubelet-start', ['/var/lib/kubelet/config.yaml', '/var/lib/kubelet/kubeadm-flags.env']) }}

Wait for the kubelet:
  caisson_wait.url_answers:
    - url: http://127.0.0.1:10248/healthz
    - failhard: true
{{ phase('kubelet-finalize all', []) }}

Found the cluster's etcd:
  caisson_etcd.founded:
    - failhard: true
{{ phase('etcd local', ['/etc/kubernetes/manifests/etcd.yaml']) }}
{{ phase('control-plane all', manifests) }}
