# SPDX-License-Identifier: Apache-2.0
include:
  - control_plane.certified
  - control_plane.started
  - control_plane.initialised
