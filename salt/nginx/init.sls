# SPDX-License-Identifier: Apache-2.0
include:
  - nginx.configured
  - nginx.running
  - nginx.renewed
  - nginx.followed
