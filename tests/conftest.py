"""Tests compile many small programs and run each for milliseconds: XLA's optimiser takes longer than what it saves.

Without it test_decoder.py takes 40 % less CPU time. What is trained and spoken by `launch/quickstart.sh` is compiled
with it.
"""

import os

os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}".strip()
