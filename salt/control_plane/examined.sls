# SPDX-License-Identifier: Apache-2.0
# Before anything of it is touched: a control plane that others have made is this cluster's, or the run ends here.
Examine a control plane that is there:
  caisson_kubeadm.control_plane_fits:
    - failhard: true
