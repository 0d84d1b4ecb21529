"""The toys of the rooms that decoding stands on."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent.parent / room) for room in ("wfst", "hmm")]
