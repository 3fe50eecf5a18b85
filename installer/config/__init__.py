# SPDX-License-Identifier: Apache-2.0
"""What the operator says, what the host answers, and the first file that is made of both."""
