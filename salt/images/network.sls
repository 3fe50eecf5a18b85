# SPDX-License-Identifier: Apache-2.0
{%- import_yaml 'parameters/images.yaml' as needed %}
{%- set images = pillar['caisson']['images'] %}
Wait for the images of the network to be pulled:
  caisson_pulls.ended:
    - references:
      {%- for id in needed['network'] %}
      - {{ images[id]['reference'] | json }}
      {%- endfor %}

Pull images of the network:
  caisson_image.pulled:
    - images:
      {%- for id in needed['network'] %}
        {{ images[id]['reference'] | json }}: {{ [images[id]['digest'], images[id]['platform_digest']] | json }}
      {%- endfor %}
    - require:
      - caisson_pulls: Wait for the images of the network to be pulled
