# SPDX-License-Identifier: Apache-2.0
{%- set caisson = pillar['caisson'] %}
Create salt-master directories:
  file.directory:
    - names:
      - /etc/caisson/salt/master
      - /etc/caisson/salt/pki/master/minions
      - /var/cache/caisson/salt-master
    - mode: '0700'
    - makedirs: true

Write salt-master configuration:
  file.managed:
    - name: /etc/caisson/salt/master/master
    - source: salt://salt_master/files/master.j2
    - template: jinja
    - context:
        caisson: {{ caisson | json }}
    - mode: '0600'
    - require:
      - file: Create salt-master directories

Make the minion's key:
  caisson_minion.key_made:
    - pki_dir: /etc/salt/pki/minion

# The strictest acceptance there is: the master knows this very key before the minion ever speaks.
Accept the minion's key:
  file.managed:
    - name: {{ ('/etc/caisson/salt/pki/master/minions/' ~ caisson['node']['name']) | json }}
    - source: /etc/salt/pki/minion/minion.pub
    - mode: '0644'
    - require:
      - caisson_minion: Make the minion's key
      - file: Create salt-master directories
