# SPDX-License-Identifier: Apache-2.0
Create registry storage:
  file.directory:
    - name: /var/lib/caisson/registry
    - mode: '0700'
    - makedirs: true

Write registry configuration:
  file.managed:
    - name: /etc/caisson/registry/config.yml
    - source: salt://registry/files/config.yml.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'
