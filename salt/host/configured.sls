# SPDX-License-Identifier: Apache-2.0
{%- set caisson = pillar['caisson'] %}

Provide kernel features:
  caisson_host.features_present:
    - modules: [overlay, br_netfilter, nf_conntrack]

Load kernel modules at boot:
  file.managed:
    - name: /etc/modules-load.d/caisson.conf
    - contents: |
        overlay
        br_netfilter
        nf_conntrack
    - mode: '0644'

{%- for key in ['net.ipv4.ip_forward', 'net.bridge.bridge-nf-call-iptables', 'net.bridge.bridge-nf-call-ip6tables'] %}

Set {{ key }}:
  sysctl.present:
    - name: {{ key }}
    - value: 1
    - config: /etc/sysctl.d/90-caisson.conf
    - require:
      - caisson_host: Provide kernel features
{%- endfor %}

{%- if caisson['overrides']['kubelet'].get('failSwapOn', true) %}

Turn swap off:
  caisson_host.swap_off: []
{%- endif %}

Let NetworkManager leave the pod interfaces alone:
  file.managed:
    - name: /etc/NetworkManager/conf.d/90-caisson.conf
    - contents: |
        [keyfile]
        unmanaged-devices=interface-name:cali*;interface-name:vxlan.calico;interface-name:vxlan-v6.calico
    - makedirs: true
    - mode: '0644'

Tell a running NetworkManager:
  caisson_service.reloaded:
    - unit: NetworkManager.service
    - reads: [/etc/NetworkManager/conf.d/90-caisson.conf]
    - require:
      - file: Let NetworkManager leave the pod interfaces alone
