# SPDX-License-Identifier: Apache-2.0
"""Start the installer from its own directory, with the packages that it carries."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENDOR = HERE / "vendor"

# The directory itself must not be searched: its modules are imported as installer.NAME only.
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != HERE]
sys.path[:0] = [str(VENDOR), str(HERE.parent)] if VENDOR.is_dir() else [str(HERE.parent)]

from installer.base.output import open_standard_streams  # noqa: E402  the path must be set first
from installer.cli.main import main  # noqa: E402

open_standard_streams()
sys.exit(main(sys.argv[1:]))
