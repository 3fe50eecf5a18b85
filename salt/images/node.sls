# SPDX-License-Identifier: Apache-2.0
# What runs on every node. A further node has no media mounted: even the first of them is pulled.
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set images = pillar['caisson']['images'] %}
include:
  - containerd.running

Pull images of the node:
  caisson_image.pulled:
    - images:
      {%- for id in needed['node'] %}
        {{ images[id]['reference'] | json }}: {{ [images[id]['digest'], images[id]['platform_digest']] | json }}
      {%- endfor %}
    - require:
      - sls: containerd.running
