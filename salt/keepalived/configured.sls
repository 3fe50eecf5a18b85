# SPDX-License-Identifier: Apache-2.0
{%- from 'parameters/ports.jinja' import port %}
{%- set caisson = pillar['caisson'] %}
{%- set facts = salt['caisson_vip.facts'](caisson, port['kube-apiserver']) %}
Create keepalived's directory:
  file.directory:
    - name: /etc/caisson/keepalived
    - mode: '0755'
    - makedirs: true

# It runs as root: nobody else may change what it runs.
{%- for name, mode in [('keepalived.conf', '0644'), ('check.sh', '0755')] %}

Write {{ name }}:
  file.managed:
    - name: /etc/caisson/keepalived/{{ name }}
    - source: salt://keepalived/files/{{ name }}.j2
    - template: jinja
    - context: {{ facts | json }}
    - mode: '{{ mode }}'
    - require:
      - file: Create keepalived's directory
{%- endfor %}

Write what runs keepalived:
  file.managed:
    - name: /etc/caisson/keepalived/run.sh
    - source: salt://keepalived/files/run.sh
    - mode: '0755'
    - require:
      - file: Create keepalived's directory
