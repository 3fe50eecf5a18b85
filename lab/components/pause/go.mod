// SPDX-License-Identifier: Apache-2.0
module caisson.lab/pause

go 1.24
