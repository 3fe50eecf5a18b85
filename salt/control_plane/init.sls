# SPDX-License-Identifier: Apache-2.0
include:
  - control_plane.configured
  - control_plane.initialised
