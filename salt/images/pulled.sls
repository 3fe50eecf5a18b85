# SPDX-License-Identifier: Apache-2.0
{%- set images = pillar['caisson']['images'] %}

Pull images of the cluster:
  caisson_image.pulled:
    - images:
      {%- for id in ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-proxy', 'coredns',
                     'calico-node', 'calico-cni', 'calico-kube-controllers'] %}
        {{ images[id]['reference'] | json }}: {{ [images[id]['digest'], images[id]['platform_digest']] | json }}
      {%- endfor %}
