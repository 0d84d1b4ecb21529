"""G: the n-gram language model as an acceptor, from ARPA by kaldilm (Kaldi's arpa2fst)."""

import subprocess
import sys
import tempfile
from pathlib import Path

import kaldifst

from asr_kd.errors import UserError
from asr_kd.wfst.lexicon import BACKOFF

# kaldilm logs to standard error and aborts its process over a damaged file, so it gets one of its own.
CONVERT = """
import sys, kaldilm
arpa, fst, words, backoff = sys.argv[1:]
kaldilm.arpa2fst(arpa, fst, disambig_symbol=backoff, read_symbol_table=words, max_arpa_warnings=0)
"""


def grammar(arpa: Path, words: Path) -> kaldifst.StdVectorFst:
    """Word acceptor, sorted by input label: `#0` on the back-off arcs, `<s>` and `</s>` become start and final states.

    UserError when the ARPA file is missing or kaldilm cannot read it.
    """
    if not arpa.exists():
        raise UserError(f"{arpa}: missing; run --stage 2 (lang)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "G.fst"
        command = [sys.executable, "-c", CONVERT, str(arpa), str(path), str(words), BACKOFF]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode != 0 or not path.exists():
            problems = [line for line in finished.stderr.splitlines() if line.startswith(("[E]", "[F]"))]
            reason = problems[0][4:] if problems else f"kaldilm ended with status {finished.returncode}"
            raise UserError(f"{arpa}: not a valid ARPA file ({reason}); check lang.ngram.arpa")
        return kaldifst.StdVectorFst.read(str(path))
