# SPDX-License-Identifier: Apache-2.0
{#- Other nodes ask for the media by a name: who serves it may change. #}
{%- set node, media_name = pillar['caisson']['node'], pillar['caisson']['media_name'] %}
include:
  - pki.authority

Create media server key:
  x509.private_key_managed:
    - name: /etc/caisson/pki/media.key
    - algo: ec
    - keysize: 256
    - mode: '0600'
    - require:
      - sls: pki.authority

Create media server certificate:
  x509.certificate_managed:
    - name: /etc/caisson/pki/media.crt
    - signing_private_key: /etc/caisson/pki/ca.key
    - signing_cert: /etc/caisson/pki/ca.crt
    - private_key: /etc/caisson/pki/media.key
    - CN: Caisson media server
    - subjectAltName: {{ ('IP:' ~ node['control_plane_address'] ~ ', DNS:' ~ node['name'] ~ ', DNS:' ~ media_name) | json }}
    - basicConstraints: critical, CA:FALSE
    - keyUsage: critical, digitalSignature
    - extendedKeyUsage: serverAuth
    - subjectKeyIdentifier: hash
    - authorityKeyIdentifier: keyid:always
    - days_valid: 825
    - days_remaining: 90
    - mode: '0644'
    - require:
      - x509: Create media server key
