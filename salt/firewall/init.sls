# SPDX-License-Identifier: Apache-2.0
{%- import_yaml 'parameters/ports.yaml' as table %}
{%- set caisson = pillar['caisson'] %}
Open the port table in firewalld:
  caisson_firewall.opened:
    - ports: {{ table['ports'] | json }}
    - planes:
        control_plane:
          interface: {{ caisson['node']['control_plane_interface'] }}
          cidrs: {{ caisson['networks']['control_plane'] | json }}
        workload_plane:
          interface: {{ caisson['node']['workload_plane_interface'] }}
          cidrs: {{ caisson['networks']['workload_plane'] | json }}
    - pod_interfaces: [cali+, vxlan.calico]
    - service_cidr: {{ caisson['networks']['services'] }}
