# SPDX-License-Identifier: Apache-2.0
# The authority of Caisson's own services, made here or brought by the site; of Kubernetes it signs nothing. The site's
# files are copied once: then they may be taken off the host.
{%- set caisson = pillar['caisson'] %}
{%- set site, site_leaf = caisson['authorities']['services'], caisson.get('media', {}).get('certificate') %}
include:
  - pki.emptied

Create PKI directory:
  file.directory:
    - name: /etc/caisson/pki
    - mode: '0700'
    - makedirs: true
{%- if site %}
{%- for name, source, mode in [('ca.key', site['key_file'], '0600'), ('ca.crt', site['certificate_file'], '0644')] %}

Copy the site's {{ name }}:
  file.managed:
    - name: /etc/caisson/pki/{{ name }}
    - source: {{ source | json }}
    - mode: '{{ mode }}'
    - show_changes: false
    - unless: test -s /etc/caisson/pki/{{ name }}
    - require:
      - file: Create PKI directory
{%- endfor %}
{%- else %}

Create CA key:
  x509.private_key_managed:
    - name: /etc/caisson/pki/ca.key
    - algo: ec
    - keysize: 384
    - mode: '0600'
    - require:
      - file: Create PKI directory
      - sls: pki.emptied

Create CA certificate:
  x509.certificate_managed:
    - name: /etc/caisson/pki/ca.crt
    - signing_private_key: /etc/caisson/pki/ca.key
    - CN: Caisson CA
    - O: {{ caisson['cluster']['name'] | json }}
    - basicConstraints: critical, CA:TRUE
    - keyUsage: critical, keyCertSign, cRLSign
    - subjectKeyIdentifier: hash
    - days_valid: 3650
    - days_remaining: 0
    - mode: '0644'
    - require:
      - x509: Create CA key
{%- endif %}

Publish CA certificate:
  caisson_certificate.published:
    - name: /etc/caisson/ca.crt
    - sources: {{ (['/etc/caisson/pki/ca.crt'] + (['/etc/caisson/pki/site-ca.crt'] if site_leaf else [])) | json }}
    - require:
      - {{ "file: Copy the site's ca.crt" if site else "x509: Create CA certificate" }}
