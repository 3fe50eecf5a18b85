# SPDX-License-Identifier: Apache-2.0
base:
  '*':
    - roles.bootstrap
