# SPDX-License-Identifier: Apache-2.0
# A power cut may leave the name of a key without a byte, which Salt takes for a key that is damaged.
{%- for name in ['pki/ca.key', 'tls/media.key'] %}

Remove an empty {{ name }}:
  file.absent:
    - name: /etc/caisson/{{ name }}
    - onlyif: test -e /etc/caisson/{{ name }} && test ! -s /etc/caisson/{{ name }}
{%- endfor %}
