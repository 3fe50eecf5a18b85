# SPDX-License-Identifier: Apache-2.0
include:
  - containerd.configured

Run containerd:
  service.running:
    - name: containerd
    - enable: true
    - watch:
      - file: Write containerd configuration
      - file: Write containerd overrides of the site

Wait for the container runtime:
  caisson_wait.command_succeeds:
    - command: [crictl, info]
    - timeout_s: 60
    - require:
      - service: Run containerd
      - file: Tell crictl where the runtime is
