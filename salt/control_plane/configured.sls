# SPDX-License-Identifier: Apache-2.0
{%- set caisson, authority = pillar['caisson'], pillar['caisson']['authorities']['cluster'] %}
include:
  - control_plane.examined
{#- Nothing is configured for a control plane that others have made: their patches, say, are theirs. #}

Write kubeadm configuration:
  file.managed:
    - name: /etc/caisson/kubeadm/init.yaml
    # As JSON, which is YAML whoever reads it: Go takes a plain 1e3 or 0777 for a number.
    - contents: |
{%- for document in salt['caisson_kubeadm.configuration'](caisson) %}
        ---
        {{ document | json(indent=1) | indent(8) }}
{%- endfor %}
    - makedirs: true
    - mode: '0600'
    - show_changes: false
    - unless: [{fun: caisson_kubeadm.is_left_alone}]

{%- for name, text in salt['caisson_kubeadm.patches'](caisson) | dictsort %}

{{ ('Write kubeadm patch ' ~ name) | json }}:
  file.managed:
    - name: {{ ('/etc/kubernetes/patches/' ~ name) | json }}
    - contents: {{ text | json }}
    - makedirs: true
    - mode: '0600'
    - show_changes: false
    - unless: [{fun: caisson_kubeadm.is_left_alone}]
    - require_in:
      - file: Remove kubeadm patches of before
      - cmd: Validate kubeadm configuration
{%- endfor %}

# What is required is kept, all else in there goes: kubeadm would apply a patch that nobody asks for any more.
Remove kubeadm patches of before:
  file.directory:
    - name: /etc/kubernetes/patches
    - clean: true
    - unless: [{fun: caisson_kubeadm.is_left_alone}]

{%- for name, key, mode in [('ca.key', 'key_file', '0600'), ('ca.crt', 'certificate_file', '0644')] if authority %}

Place the site's {{ name }} for kubeadm:
  file.managed:
    - name: /etc/kubernetes/pki/{{ name }}
    - source: {{ authority[key] | json }}
    - mode: '{{ mode }}'
    - makedirs: true
    - show_changes: false
    - onlyif: [{fun: caisson_kubeadm.waits_for, path: /etc/kubernetes/pki/{{ name }}}]
    - require_in:
      - cmd: Validate kubeadm configuration
{%- endfor %}

Validate kubeadm configuration:
  cmd.run:
    - name: kubeadm config validate --config /etc/caisson/kubeadm/init.yaml
    - onchanges: [{file: Write kubeadm configuration}]
