# SPDX-License-Identifier: Apache-2.0
# A host without a running firewalld is left alone.
{%- import_yaml 'parameters/ports.yaml' as table %}
{%- set caisson = pillar['caisson'] %}
{%- set services = caisson['networks']['services'] %}
{%- set pod_interfaces = ['cali+', 'vxlan.calico'] %}
{%- set planes = {'control_plane': caisson['networks']['control_plane'], 'workload_plane': caisson['networks']['workload_plane'], 'control_planes': salt['caisson_firewall.peers'](caisson)} %}
{%- set openings = salt['caisson_firewall.openings'](table['ports'], planes, caisson['node']['role'], salt['caisson_vip.peers'](caisson)) %}
Find firewalld fit for the zone of pods:
  caisson_firewall.fit:
    - pod_interfaces: {{ pod_interfaces | json }}

Define the zone of pods:
  file.managed:
    - name: /etc/firewalld/zones/caisson-pods.xml
    - source: salt://firewall/files/caisson-pods.xml.j2
    - template: jinja
    - context:
        interfaces: {{ pod_interfaces | json }}
    - mode: '0644'
    - onlyif: [{fun: caisson_firewall.is_active}]
    - require:
      - caisson_firewall: Find firewalld fit for the zone of pods

Define the policy of service addresses:
  file.managed:
    - name: /etc/firewalld/policies/caisson-services.xml
    - source: salt://firewall/files/caisson-services.xml.j2
    - template: jinja
    - context:
        cidr: {{ services | json }}
        family: {{ (6 if ':' in services else 4) | json }}
    - mode: '0644'
    - makedirs: true
    - onlyif: [{fun: caisson_firewall.is_active}]
    - require:
      - caisson_firewall: Find firewalld fit for the zone of pods

Define the policy of nodes:
  file.managed:
    - name: /etc/firewalld/policies/caisson-nodes.xml
    - source: salt://firewall/files/caisson-nodes.xml.j2
    - template: jinja
    - context:
        openings: {{ openings | json }}
    - mode: '0644'
    - makedirs: true
    - onlyif: [{fun: caisson_firewall.is_active}]
    - require:
      - caisson_firewall: Find firewalld fit for the zone of pods

Load the port table into firewalld:
  caisson_firewall.loaded:
    - openings: {{ openings | json }}
    - pod_interfaces: {{ pod_interfaces | json }}
    - service_cidr: {{ services | json }}
    - require:
      - file: Define the zone of pods
      - file: Define the policy of service addresses
      - file: Define the policy of nodes
