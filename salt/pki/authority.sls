# SPDX-License-Identifier: Apache-2.0
# The certificate authority of Caisson's own services. It signs nothing of Kubernetes: that is kubeadm's.
Create PKI directory:
  file.directory:
    - name: /etc/caisson/pki
    - mode: '0700'
    - makedirs: true

Create CA key:
  x509.private_key_managed:
    - name: /etc/caisson/pki/ca.key
    - algo: ec
    - keysize: 384
    - mode: '0600'
    - require:
      - file: Create PKI directory

Create CA certificate:
  x509.certificate_managed:
    - name: /etc/caisson/pki/ca.crt
    - signing_private_key: /etc/caisson/pki/ca.key
    - CN: Caisson CA of {{ pillar['caisson']['cluster']['name'] }}
    - basicConstraints: critical, CA:TRUE
    - keyUsage: critical, keyCertSign, cRLSign
    - days_valid: 3650
    - days_remaining: 0
    - mode: '0644'
    - require:
      - x509: Create CA key

Publish CA certificate:
  file.managed:
    - name: /etc/caisson/ca.crt
    - source: /etc/caisson/pki/ca.crt
    - mode: '0644'
    - require:
      - x509: Create CA certificate
