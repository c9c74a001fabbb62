"""Lets the tests of the engine import the backbone that they share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # for small_backbone.py
