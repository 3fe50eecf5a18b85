# SPDX-License-Identifier: Apache-2.0
# On the bootstrap node, where the authority's key is; what another control plane gets, 'caisson node add' asks for here.
# The authority is made when the pods are placed (static_pods.placed): looking at it takes as long as all of this.
{%- set caisson = pillar['caisson'] %}
include:
  - console.requested

Create the certificate of the console:
  x509.certificate_managed:
    - name: /etc/caisson/console/tls.crt
    - signing_private_key: /etc/caisson/pki/ca.key
    - signing_cert: /etc/caisson/pki/ca.crt
    - private_key: /etc/caisson/console/tls.key
    - CN: Caisson console
    - subjectAltName: {{ salt['caisson_console.alternative_names'](caisson) | json }}
    - basicConstraints: critical, CA:FALSE
    - keyUsage: critical, digitalSignature
    - extendedKeyUsage: serverAuth
    - subjectKeyIdentifier: hash
    - authorityKeyIdentifier: keyid:always
    - days_valid: 825
    - days_remaining: 90
    - mode: '0644'
    - require:
      - x509: Create the key of the console
