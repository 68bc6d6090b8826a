"""``python -m serving.client`` is ``dragoman-translate``."""

import sys

from serving.client.cli import main

sys.exit(main())
