# SPDX-License-Identifier: Apache-2.0
# Control planes that serve too have the site's images, a quarter of an hour later; without any this does nothing.
Define what lets others follow:
  file.managed:
    - name: /etc/systemd/system/caisson-follow.service
    - source: salt://nginx/files/caisson-follow.service
    - mode: '0644'

Define when they follow:
  file.managed:
    - name: /etc/systemd/system/caisson-follow.timer
    - source: salt://nginx/files/caisson-follow.timer
    - mode: '0644'

Read the unit that lets others follow again:
  caisson_service.unit_files_read:
    - unit: caisson-follow.service
    - require:
      - file: Define what lets others follow

Let others follow each quarter of an hour:
  caisson_service.running:
    - unit: caisson-follow.timer
    - reads: [/etc/systemd/system/caisson-follow.timer]
    - require:
      - file: Define when they follow
      - caisson_service: Read the unit that lets others follow again
