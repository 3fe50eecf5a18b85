# SPDX-License-Identifier: Apache-2.0
# What runs on every node, and on a further control plane besides.
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set images, role = pillar['caisson']['images'], pillar['caisson']['node']['role'] %}
{%- set wanted = needed['node'] + needed['further'].get(role, []) %}
include:
  - containerd.running

Wait for the images of the node to be pulled:
  caisson_pulls.ended:
    - references:
      {%- for id in wanted %}
      - {{ images[id]['reference'] | json }}
      {%- endfor %}
    - require:
      - sls: containerd.running

Pull images of the node:
  caisson_image.pulled:
    - images:
      {%- for id in wanted %}
        {{ images[id]['reference'] | json }}: {{ [images[id]['digest'], images[id]['platform_digest']] | json }}
      {%- endfor %}
    - require:
      - caisson_pulls: Wait for the images of the node to be pulled
