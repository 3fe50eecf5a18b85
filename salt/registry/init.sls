# SPDX-License-Identifier: Apache-2.0
include:
  - registry.configured
  - registry.replaced
  - registry.running
