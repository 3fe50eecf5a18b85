# SPDX-License-Identifier: Apache-2.0
include:
  - containerd.configured

Run containerd:
  caisson_service.running:
    - unit: containerd.service
    - reads: [/etc/containerd/config.toml, /etc/containerd/conf.d/90-overrides.toml]
    - check: caisson_containerd.check
    - require:
      - file: Write containerd configuration
      - file: Write containerd overrides of the site

Wait for the container runtime:
  caisson_wait.command_succeeds:
    - command: [crictl, info]
    - timeout_s: 60
    - require:
      - caisson_service: Run containerd
      - file: Tell crictl where the runtime is
