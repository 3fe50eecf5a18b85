# SPDX-License-Identifier: Apache-2.0
# A cluster that nobody touches for years still serves: the certificate of nginx is looked at each day.
Define what renews the certificate:
  file.managed:
    - name: /etc/systemd/system/caisson-renew.service
    - source: salt://nginx/files/caisson-renew.service
    - mode: '0644'

Define when that looks:
  file.managed:
    - name: /etc/systemd/system/caisson-renew.timer
    - source: salt://nginx/files/caisson-renew.timer
    - mode: '0644'

Read the unit that renews the certificate again:
  caisson_service.unit_files_read:
    - unit: caisson-renew.service
    - require:
      - file: Define what renews the certificate

Look each day when the certificate ends:
  caisson_service.running:
    - unit: caisson-renew.timer
    - reads: [/etc/systemd/system/caisson-renew.timer]
    - require:
      - file: Define when that looks
      - caisson_service: Read the unit that renews the certificate again
