# SPDX-License-Identifier: Apache-2.0
# The user, and a key of which a control plane shows the bootstrap node the public half: the authority's key is there.
Create the user of the console:
  user.present:
    - name: caisson-console
    - system: true
    - usergroup: true
    - createhome: false
    - home: /nonexistent
    - shell: /usr/sbin/nologin
    - fullname: Caisson's console

Create console directory:
  file.directory:
    - name: /etc/caisson/console
    - mode: '0700'
    - makedirs: true

# A power cut may leave the name of a key without a byte, which Salt takes for a key that is damaged.
Remove an empty key of the console:
  file.absent:
    - name: /etc/caisson/console/tls.key
    - onlyif: test -e /etc/caisson/console/tls.key && test ! -s /etc/caisson/console/tls.key

Create the key of the console:
  x509.private_key_managed:
    - name: /etc/caisson/console/tls.key
    - algo: ec
    - keysize: 256
    - mode: '0600'
    - require:
      - file: Create console directory
      - file: Remove an empty key of the console

Show the public key of the console:
  caisson_console.key_shown:
    - name: /etc/caisson/console/tls.pub
    - key_file: /etc/caisson/console/tls.key
    - require:
      - x509: Create the key of the console
