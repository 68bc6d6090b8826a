"""``python -m serving`` is ``dragoman-serve``."""

import sys

from serving.cli import main

sys.exit(main())
