"""`python -m asr_kd.deploy DIR FILE…`: `asr-kd transcribe` where only what it runs on is installed."""

import typer

from asr_kd.deploy.command import transcribe

typer.run(transcribe)
