# SPDX-License-Identifier: Apache-2.0
# containerd reads it at each pull: who serves may change without a restart.
Send every pull to the media servers:
  file.managed:
    - name: /etc/containerd/certs.d/_default/hosts.toml
    - source: salt://containerd/files/hosts.toml.j2
    - template: jinja
    - context:
        media_servers: {{ pillar['caisson']['media_servers'] | json }}
    - makedirs: true
    - mode: '0644'
