# SPDX-License-Identifier: Apache-2.0
Install what a minimal host may lack:
  caisson_package.installed:
    - packages: [tar, xz]
