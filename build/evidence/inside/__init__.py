# SPDX-License-Identifier: Apache-2.0
"""What is inside of images and packages: one reader for each kind of package database."""
