# SPDX-License-Identifier: Apache-2.0
"""The web console: shows a cluster and its hosts to whoever is logged in, and asks root's door for jobs.

It has no right of its own. What Kubernetes knows it asks with the user's token (``api``), what the host knows it asks
the door (``door``). A page is data to context (``views/``, pure), context to text (``templates/``).
"""
