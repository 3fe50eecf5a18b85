# SPDX-License-Identifier: Apache-2.0
# What must run before nginx serves images; everything else is pulled from it.
# The registry's is left to its own phase where another one runs by that name or version.
{%- from 'parameters/registry.jinja' import image as registry with context %}
{%- set caisson = pillar['caisson'] %}
include:
  - containerd.running

Import the first images:
  caisson_image.imported:
    - images:
      # The largest first: the others are imported beside it.
      {%- for id, image in caisson['images'] | dictsort(reverse=true) if image['preload'] %}
        {{ image['reference'] | json }}: {{ [image['platform_digest'], image['digest']] | json }}
      {%- endfor %}
    - layout_dir: {{ (caisson['media_dir'] ~ '/oci') | json }}
    - pods: {{ {'registry': registry} | json }}
    - left: [newer, older]
    - require:
      - sls: containerd.running
