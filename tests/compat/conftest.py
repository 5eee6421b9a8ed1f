"""The compatibility corpus takes minutes and wants packages: it runs where CAPSULE_COMPAT is set, as in `.ci/run compat`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob = [] if "CAPSULE_COMPAT" in os.environ else ["test_*.py"]
