// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools names the main packages of this component, so that go.mod keeps what they need.
package tools

import (
	_ "github.com/coredns/coredns"
)
