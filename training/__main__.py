"""``python -m training``, the same as ``dragoman-train``."""

from training.cli import main

raise SystemExit(main())
