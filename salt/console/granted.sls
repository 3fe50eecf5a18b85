# SPDX-License-Identifier: Apache-2.0
# The console's users and what they may do, as Kubernetes knows it. The API has no resources of the console's own group:
# RBAC compares names, and the installer asks for them.
Let Kubernetes know the roles of the console:
  caisson_kubernetes.objects_applied:
    - source: salt://console/files/roles.yaml
