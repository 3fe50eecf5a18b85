# SPDX-License-Identifier: Apache-2.0
# A cluster that nobody touches for years still serves: the certificate of nginx is looked at each day.
{%- for unit in ['caisson-renew.service', 'caisson-renew.timer'] %}
Define {{ unit }}:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - source: salt://nginx/files/{{ unit }}
    - mode: '0644'
{% endfor %}
Look each day when the certificate ends:
  caisson_service.running:
    - unit: caisson-renew.timer
    - reads: [/etc/systemd/system/caisson-renew.timer]
    - require:
      - file: Define caisson-renew.service
      - file: Define caisson-renew.timer
