# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/registry.jinja' import image with context %}
Create registry storage:
  file.directory:
    - name: /var/lib/caisson/registry
    - mode: '0700'
    - makedirs: true

# A registry that is newer than the media's keeps the configuration that it was started with, and so does an older one
# until its manifest is away (registry.replaced).
Write registry configuration:
  file.managed:
    - name: /etc/caisson/registry/config.yml
    - source: salt://registry/files/config.yml.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'
    - unless:
      - fun: caisson_pod_image.keeps
        args: {{ ['registry', image] | json }}
