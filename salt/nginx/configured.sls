# SPDX-License-Identifier: Apache-2.0
# The keys and certificates are made when the pods are placed (static_pods.placed): looking at them takes as long as all else.
{%- from 'parameters/ports.jinja' import port %}
{%- set caisson = pillar['caisson'] %}
{%- set node = caisson['node'] %}
{%- set media_dir = '/srv/caisson/' ~ node['media'][0] if node.get('media') else caisson['media_dir'] %}
{%- set names = [node['control_plane_address'], node['name'], caisson['media_name']] + caisson['elsewhere'].get(caisson['media_name'], []) %}
{%- set own_names = names | map('replace', '.', '[.]') | join('|') %}
Create nginx directory:
  file.directory:
    - name: /etc/caisson/nginx
    - mode: '0755'
    - makedirs: true

# nginx' workers, which are another user, look here for each further node: one that they could not see might push.
Create directory of further nodes:
  file.directory:
    - name: /etc/caisson/nginx/nodes
    - mode: '0755'
    - require:
      - file: Create nginx directory

# Small texts, copied so that nginx starts at boot whether the ISO is there or not; what they point to stays on it.
{%- for name in ['oci-maps.conf', 'oci-locations.conf'] %}

Copy {{ name }}:
  file.managed:
    - name: /etc/caisson/nginx/{{ name }}
    - source: {{ (media_dir ~ '/nginx/' ~ name) | json }}
    - mode: '0644'
    - require:
      - file: Create nginx directory
{%- endfor %}

Write nginx configuration:
  file.managed:
    - name: /etc/caisson/nginx/nginx.conf
    - source: salt://nginx/files/nginx.conf.j2
    - template: jinja
    - context:
        address: {{ node['control_plane_address'] | json }}
        media_dir: {{ media_dir | json }}
    - mode: '0644'
    - require:
      - file: Create nginx directory

# Under which names of registries this server is asked for what it has, as lines of a map (oci-maps.conf includes it).
Write names of the media server:
  file.managed:
    - name: /etc/caisson/nginx/own-names.conf
    - contents: {{ ('"~*^(?:' ~ own_names ~ ')(?::|%3A)(?:' ~ port['media-https'] ~ '|' ~ port['registry-push'] ~ ')$" "";') | json }}
    - mode: '0644'
    - require:
      - file: Create nginx directory
