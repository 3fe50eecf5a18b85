# SPDX-License-Identifier: Apache-2.0
# What runs on every node.
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set images = pillar['caisson']['images'] %}
include:
  - containerd.running

Wait for the images of the node to be pulled:
  caisson_pulls.ended:
    - references:
      {%- for id in needed['node'] %}
      - {{ images[id]['reference'] | json }}
      {%- endfor %}
    - require:
      - sls: containerd.running

Pull images of the node:
  caisson_image.pulled:
    - images:
      {%- for id in needed['node'] %}
        {{ images[id]['reference'] | json }}: {{ [images[id]['digest'], images[id]['platform_digest']] | json }}
      {%- endfor %}
    - require:
      - caisson_pulls: Wait for the images of the node to be pulled
