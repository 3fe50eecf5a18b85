// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools names the main packages of this component, so that go.mod keeps what they need.
package tools

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
