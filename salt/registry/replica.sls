# SPDX-License-Identifier: Apache-2.0
# On a further control plane that serves: it has what the bootstrap node has pushed to it, and follows that one's version.
{%- from 'parameters/ports.jinja' import port %}
{%- import_yaml 'parameters/static_pods.yaml' as table %}
Create storage of the registry that follows:
  file.directory:
    - name: /var/lib/caisson/registry
    - mode: '0700'
    - makedirs: true

Write configuration of the registry that follows:
  file.managed:
    - name: /etc/caisson/registry/config.yml
    - source: salt://registry/files/config.yml.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'

Run the registry that follows:
  caisson_static_pod.running:
    - name: registry
    - source: salt://registry/files/pod.yaml.j2
    - configuration_files: {{ table['static_pods']['registry'] | json }}
    - require:
      - file: Create storage of the registry that follows
      - file: Write configuration of the registry that follows

Wait for the registry that follows:
  caisson_wait.url_answers:
    - url: {{ ('http://127.0.0.1:' ~ port['registry'] ~ '/') | json }}
    - timeout_s: 120
    - require:
      - caisson_static_pod: Run the registry that follows
