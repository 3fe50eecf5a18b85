# SPDX-License-Identifier: Apache-2.0
# The kubelet before there is an API server: it runs static pods and nothing else. Once kubeadm has written its own
# configuration (/var/lib/kubelet/config.yaml) these states stand back.
{%- set node = pillar['caisson']['node'] %}
include:
  - kubelet.configured

Create static pod directory:
  file.directory:
    - name: /etc/kubernetes/manifests
    - mode: '0755'
    - makedirs: true

# As kubeadm makes it; the kubelet itself would let everybody look in.
Create the kubelet's directory:
  file.directory:
    - name: /var/lib/kubelet
    - mode: '0700'
    - unless: test -d /var/lib/kubelet

Write standalone kubelet configuration:
  file.managed:
    - name: /etc/caisson/kubelet/standalone.yaml
    - contents: {{ salt['caisson_kubeadm.standalone_kubelet'](pillar['caisson']) | json(indent=1) | json }}
    - makedirs: true
    - mode: '0600'
    - show_changes: false

Write standalone kubelet drop-in:
  file.managed:
    - name: /etc/systemd/system/kubelet.service.d/20-caisson-standalone.conf
    - contents: |
        # Managed by Caisson; goes when kubeadm's configuration takes over.
        [Service]
        ExecStart=
        ExecStart=/usr/bin/kubelet --config=/etc/caisson/kubelet/standalone.yaml --hostname-override={{ node['name'] }} --node-ip={{ node['control_plane_address'] }}
    - mode: '0644'
    - unless: test -f /var/lib/kubelet/config.yaml
    - require:
      - sls: kubelet.configured
      - file: Write standalone kubelet configuration

Run standalone kubelet:
  caisson_service.running:
    - unit: kubelet.service
    # The drop-in goes when kubeadm's configuration takes over; from then on the kubelet is kubeadm's to restart.
    - reads: [/etc/systemd/system/kubelet.service.d/20-caisson-standalone.conf, /etc/caisson/kubelet/standalone.yaml]
    - require:
      - file: Create static pod directory
      - file: Create the kubelet's directory
      - file: Write standalone kubelet drop-in

Wait for the kubelet's own health:
  caisson_wait.url_answers:
    - url: http://127.0.0.1:10248/healthz
    - timeout_s: 60
    - require:
      - caisson_service: Run standalone kubelet
