# SPDX-License-Identifier: Apache-2.0
include:
  - host.installed
  - host.configured
  - host.names
