# SPDX-License-Identifier: Apache-2.0
# Where the media's image is newer: import it, take the manifest away, wait until the old one is down. What comes next
# (registry.running) writes configuration and manifest, and waits. Otherwise all of this is quiet.
{%- from 'parameters/ports.jinja' import port %}
{%- from 'parameters/registry.jinja' import image with context %}
include:
  - registry.configured

Compare the registry with the media's:
  caisson_static_pod.compared:
    - name: registry
    - image: {{ image | json }}

Import the image of the registry:
  caisson_image.imported:
    - images: {{ {image['reference']: image['digests']} | json }}
    - layout_dir: {{ (pillar['caisson']['media_dir'] ~ '/oci') | json }}
    - pods: {{ {'registry': image} | json }}
    - left: [older]
    - require:
      - caisson_static_pod: Compare the registry with the media's

Remove the manifest of the registry:
  caisson_static_pod.removed:
    - name: registry
    - image: {{ image | json }}
    - require:
      - caisson_image: Import the image of the registry

Wait until the registry is down:
  caisson_static_pod.down:
    - name: registry
    - host: 127.0.0.1
    - port: {{ port['registry'] | json }}
    - require:
      - caisson_static_pod: Remove the manifest of the registry
    - require_in:
      - file: Write registry configuration
