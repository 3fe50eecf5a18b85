# SPDX-License-Identifier: Apache-2.0
{#- Other nodes ask for the media by a name: who serves it may change. #}
{%- set node, media_name = pillar['caisson']['node'], pillar['caisson']['media_name'] %}
include:
  - pki.authority

# A directory of its own: nginx sees it, and a file that is renamed into it, without being started again.
Create directory of the media server's certificate:
  file.directory:
    - name: /etc/caisson/tls
    - mode: '0755'
    - makedirs: true

Create media server key:
  x509.private_key_managed:
    - name: /etc/caisson/tls/media.key
    - algo: ec
    - keysize: 256
    - mode: '0600'
    - require:
      - sls: pki.authority
      - file: Create directory of the media server's certificate

Create media server certificate:
  x509.certificate_managed:
    - name: /etc/caisson/tls/media.crt
    - signing_private_key: /etc/caisson/pki/ca.key
    - signing_cert: /etc/caisson/pki/ca.crt
    - private_key: /etc/caisson/tls/media.key
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
