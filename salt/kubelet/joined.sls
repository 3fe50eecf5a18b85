# SPDX-License-Identifier: Apache-2.0
# A further node joins. The token that lets it is in a file in memory that came over SSH, and so are the keys of the
# cluster's authorities where it becomes a control plane; nothing here holds them.
# The kubelet is installed and set up by then (kubelet.configured, the phase before).
{%- set caisson = pillar['caisson'] %}
Write kubeadm's configuration of the join:
  file.managed:
    - name: /etc/caisson/kubeadm/join.yaml
    - contents: {{ salt['caisson_kubeadm.join_configuration'](caisson) | json(indent=1) | json }}
    - makedirs: true
    - mode: '0600'
    - show_changes: false

{%- for name, text in salt['caisson_kubeadm.node_patches'](caisson) | dictsort %}

{{ ('Write kubeadm patch ' ~ name) | json }}:
  file.managed:
    - name: {{ ('/etc/kubernetes/patches/' ~ name) | json }}
    - contents: {{ text | json }}
    - makedirs: true
    - mode: '0600'
    - show_changes: false
    - require_in:
      - file: Remove kubeadm patches of before
      - caisson_join: Join the cluster
{%- endfor %}

# What is required is kept, all else in there goes: kubeadm would apply a patch that nobody asks for any more.
Remove kubeadm patches of before:
  file.directory:
    - name: /etc/kubernetes/patches
    - clean: true

Start the kubelet at each boot:
  caisson_service.enabled:
    - unit: kubelet.service

Join the cluster:
  caisson_join.joined:
    - is_control_plane: {{ salt['caisson_kubeadm.is_control_plane'](caisson) | json }}
    - require:
      - file: Write kubeadm's configuration of the join
      - file: Remove kubeadm patches of before
      - caisson_service: Start the kubelet at each boot
