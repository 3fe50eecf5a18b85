# SPDX-License-Identifier: Apache-2.0
# What must run before nginx serves images; everything else is pulled from it.
{%- set caisson = pillar['caisson'] %}
include:
  - containerd.running
{%- for id, image in caisson['images'] | dictsort if image['preload'] %}

Import {{ id }}:
  caisson_image.imported:
    - reference: {{ image['reference'] | json }}
    - digests: {{ [image['platform_digest'], image['digest']] | json }}
    - layout_dir: {{ (caisson['media_dir'] ~ '/oci') | json }}
    - require:
      - sls: containerd.running
{%- endfor %}
