# SPDX-License-Identifier: Apache-2.0
include:
  - salt_master.configured
  - salt_master.running
