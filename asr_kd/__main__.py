"""`python -m asr_kd` is the `asr-kd` command."""

from asr_kd.cli import app

app()
