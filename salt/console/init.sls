# SPDX-License-Identifier: Apache-2.0
include:
  - console.certified
  - console.granted
  - console.running
