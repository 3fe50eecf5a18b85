# SPDX-License-Identifier: Apache-2.0
# kube-proxy asks the API by its name, with the /etc/hosts of its start: one that is older than a move of the name would,
# once its connection is lost, go on asking the place of before.
Let kube-proxy find where the API is now:
  caisson_names.known_to_pods:
    - app: kube-proxy
