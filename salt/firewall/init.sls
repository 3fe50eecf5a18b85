# SPDX-License-Identifier: Apache-2.0
# A host without a running firewalld is left alone.
{%- import_yaml 'parameters/ports.yaml' as table %}
{%- set caisson = pillar['caisson'] %}
{%- set services = caisson['networks']['services'] %}
{%- set pod_interfaces = ['cali+', 'vxlan.calico'] %}
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
    - onlyif: firewall-cmd --state
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
    - onlyif: firewall-cmd --state
    - require:
      - caisson_firewall: Find firewalld fit for the zone of pods

Open the port table in firewalld:
  caisson_firewall.opened:
    - ports: {{ table['ports'] | json }}
    - planes:
        control_plane:
          interface: {{ caisson['node']['control_plane_interface'] | json }}
          cidrs: {{ caisson['networks']['control_plane'] | json }}
        workload_plane:
          interface: {{ caisson['node']['workload_plane_interface'] | json }}
          cidrs: {{ caisson['networks']['workload_plane'] | json }}
    - pod_interfaces: {{ pod_interfaces | json }}
    - service_cidr: {{ services | json }}
    - require:
      - file: Define the zone of pods
      - file: Define the policy of service addresses
