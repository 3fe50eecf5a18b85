# SPDX-License-Identifier: Apache-2.0
# Before anything asks the API by its name, which leads to the address. The cluster's authority is there by then.
{%- from 'parameters/ports.jinja' import port %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
{%- set caisson = pillar['caisson'] %}
{%- set image = caisson['images']['keepalived'] %}
include:
  - keepalived.configured

Wait for the image of keepalived to be pulled:
  caisson_pulls.ended:
    - references: [{{ image['reference'] | json }}]

Pull the image of keepalived:
  caisson_image.pulled:
    - images:
        {{ image['reference'] | json }}: {{ [image['digest'], image['platform_digest']] | json }}
    - require:
      - caisson_pulls: Wait for the image of keepalived to be pulled

Run keepalived:
  caisson_static_pod.running:
    - name: keepalived
    - source: salt://keepalived/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods']['keepalived'] | json }}
    - require:
      - sls: keepalived.configured
      - caisson_image: Pull the image of keepalived

Wait until a node has the virtual address:
  caisson_vip.held:
    - address: {{ caisson['networks']['vip'] | json }}
    - port: {{ port['kube-apiserver'] | json }}
    - peers: {{ salt['caisson_vip.peers'](caisson) | json }}
    - failhard: true
    - require:
      - caisson_static_pod: Run keepalived
