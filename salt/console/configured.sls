# SPDX-License-Identifier: Apache-2.0
# The console's user cannot look into /etc/caisson: systemd gives it what it may read.
{%- from 'parameters/ports.jinja' import port %}
{%- set caisson = pillar['caisson'] %}
include:
  - console.requested

Write console settings:
  file.managed:
    - name: /etc/caisson/console/console.json
    - contents: {{ salt['caisson_console.settings'](caisson, port['console'], port['kube-apiserver']) | json | json }}
    - mode: '0600'
    - require:
      - file: Create console directory
{%- set told = {
  'caisson-console.socket': {'addresses': salt['caisson_console.addresses'](caisson), 'port': port['console']},
  'caisson-console.service': {'self_dir': caisson['self_dir'], 'networks': salt['caisson_console.allowed_networks'](caisson)},
  'caisson-door.socket': {},
  'caisson-door@.service': {},
} %}
{%- for name, context in told.items() %}

Define {{ name }}:
  file.managed:
    - name: /etc/systemd/system/{{ name }}
    - source: salt://console/files/{{ name }}.j2
    - template: jinja
    - context: {{ context | json }}
    - mode: '0644'
{%- endfor %}
