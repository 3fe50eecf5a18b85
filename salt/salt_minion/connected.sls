# SPDX-License-Identifier: Apache-2.0
{%- set node, media_dir = pillar['caisson']['node'], pillar['caisson']['media_dir'] %}
Write minion configuration:
  file.managed:
    - name: /etc/salt/minion.d/90-caisson.conf
    - contents: |
        # Managed by Caisson.
        master: {{ node['control_plane_address'] | json }}
        id: {{ node['name'] | json }}
        enable_fqdns_grains: false
        enable_gpu_grains: false
        lazy_loader_strict_matching: true
        encryption_algorithm: OAEP-SHA224
        signing_algorithm: PKCS1v15-SHA224
        module_dirs: {{ [media_dir ~ '/salt/_modules'] | json }}
        states_dirs: {{ [media_dir ~ '/salt/_states'] | json }}
        retry_dns: 0
        acceptance_wait_time: 2
        random_reauth_delay: 5
    - makedirs: true
    - mode: '0644'

# Known beforehand in the other direction too: this minion will talk to this master only.
Know the master's key:
  file.managed:
    - name: /etc/salt/pki/minion/minion_master.pub
    - source: /etc/caisson/salt/pki/master/master.pub
    - mode: '0644'

# That it has started is not waited for: its answer to the master is, at the end of the run.
Run salt-minion:
  caisson_service.running:
    - unit: salt-minion.service
    - waits: false
    - reads: [/etc/salt/minion.d/90-caisson.conf, /etc/salt/pki/minion/minion_master.pub]
    - require:
      - file: Write minion configuration
      - file: Know the master's key
