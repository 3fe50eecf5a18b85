# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/ports.jinja' import port %}
{%- set address = pillar['caisson']['node']['control_plane_address'] %}
include:
  - console.configured

# The socket makes systemd keep it in memory. Of a request's unit each instance is read when it comes.
Let systemd read the unit of the console:
  caisson_service.unit_files_read:
    - unit: caisson-console.service
    - require:
      - sls: console.configured
{%- for name in ['caisson-door.socket', 'caisson-console.socket'] %}

Listen for {{ name }}:
  caisson_service.running:
    - unit: {{ name }}
    - reads: [/etc/systemd/system/{{ name }}]
    - require:
      - caisson_service: Let systemd read the unit of the console
{%- endfor %}

# It starts with the first connection and ends ten minutes after the last one: what does not run reads them anyway.
Let a console that runs read its files:
  caisson_service.renewed:
    - unit: caisson-console.service
    - reads:
      - /etc/caisson/console/console.json
      - /etc/caisson/console/tls.crt
      - /etc/caisson/console/tls.key
      - /etc/kubernetes/pki/ca.crt
      - /etc/systemd/system/caisson-console.service
      - {{ (pillar['caisson']['self_dir'] ~ '/console/__init__.py') | json }}
    - require:
      - caisson_service: Listen for caisson-console.socket

Wait for the console:
  caisson_wait.url_answers:
    - url: {{ ('https://' ~ address ~ ':' ~ port['console'] ~ '/healthz') | json }}
    - ca_file: /etc/caisson/ca.crt
    - timeout_s: 60
    - require:
      - caisson_service: Let a console that runs read its files
      - caisson_service: Listen for caisson-door.socket
