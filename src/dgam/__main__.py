"""``python -m dgam`` is the command ``dgam``."""

from __future__ import annotations

import sys

from dgam.cli import main

sys.exit(main())
