# SPDX-License-Identifier: Apache-2.0
# What needs no image: it is done while the images of the control plane are still being pulled.
{%- from 'control_plane/phase.jinja' import phase %}
{#- Without super-admin.conf: a site does well to lock it away. #}
{%- set server, users = ['/etc/kubernetes/pki/apiserver.crt', '/etc/kubernetes/pki/apiserver.key'], [] %}
{%- for name in ['admin', 'kubelet', 'controller-manager', 'scheduler'] %}{% do users.append('/etc/kubernetes/' ~ name ~ '.conf') %}{% endfor %}
include:
  - control_plane.examined
  - control_plane.configured
{{ phase('certs all', salt['caisson_kubeadm.certificate_files'](), renews=server, restarts='kube-apiserver') }}
{{ phase('kubeconfig all', users) }}
