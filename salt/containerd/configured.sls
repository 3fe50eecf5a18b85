# SPDX-License-Identifier: Apache-2.0
{%- set caisson = pillar['caisson'] %}
include:
  - containerd.installed
  - containerd.mirrors

Write containerd configuration:
  file.managed:
    - name: /etc/containerd/config.toml
    - source: salt://containerd/files/config.toml.j2
    - template: jinja
    - context:
        pause_reference: {{ caisson['images']['pause']['reference'] | json }}
        discard_unpacked_layers: {{ caisson.get('containerd', {}).get('discard_unpacked_layers', false) | json }}
    - mode: '0644'
    - require:
      - sls: containerd.installed

Write containerd overrides of the site:
  file.managed:
    - name: /etc/containerd/conf.d/90-overrides.toml
    - contents: {{ (caisson['overrides']['containerd'] or 'version = 3') | json }}
    - makedirs: true
    # A site's registries and their passwords may be in there.
    - mode: '0600'
    - show_changes: false
    - require:
      - sls: containerd.installed

Tell crictl where the runtime is:
  file.managed:
    - name: /etc/crictl.yaml
    - contents: |
        runtime-endpoint: unix:///run/containerd/containerd.sock
        image-endpoint: unix:///run/containerd/containerd.sock
        timeout: 30
    - mode: '0644'
