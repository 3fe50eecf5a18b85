# SPDX-License-Identifier: Apache-2.0
# What firewalld cannot say: it looks at a packet once kube-proxy has rewritten it. Where firewalld does not run, every
# port of the host is open, and so this stays away too.
{%- set networks = pillar['caisson']['networks'] %}
Define the guard of addresses:
  file.managed:
    - name: /etc/caisson/guard.nft
    - source: salt://firewall/files/guard.nft.j2
    - template: jinja
    - context:
        interfaces: ['cali+', 'vxlan.calico']
        pods: {{ [networks['pods']] | json }}
        services: {{ [networks['services']] | json }}
    - mode: '0644'
    - makedirs: true
    - onlyif: [{fun: caisson_firewall.is_active}]

Define the unit of the guard:
  file.managed:
    - name: /etc/systemd/system/caisson-guard.service
    - source: salt://firewall/files/caisson-guard.service
    - mode: '0644'
    - onlyif: [{fun: caisson_firewall.is_active}]

Keep the guard over reboots:
  caisson_service.running:
    - unit: caisson-guard.service
    - reads: [/etc/caisson/guard.nft, /etc/systemd/system/caisson-guard.service]
    # In one step: a restart would let packets through between the old rules and the new.
    - reloads: true
    - onlyif: [{fun: caisson_firewall.is_active}]
    - require:
      - file: Define the unit of the guard
      - file: Define the guard of addresses

# Its mark, in the rules as in the file, is their digest.
Load the guard again where somebody flushed it:
  cmd.run:
    - name: systemctl reload caisson-guard.service
    - unless: nft list chain inet caisson arriving | grep --quiet --fixed-strings "$(grep --only-matching 'comment "caisson [0-9a-f]*"' /etc/caisson/guard.nft)"
    - onlyif: [{fun: caisson_firewall.is_active}]
    - require:
      - caisson_service: Keep the guard over reboots
