"""G: the n-gram language model as an acceptor, from ARPA by kaldilm (Kaldi's arpa2fst)."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kaldifst
import kaldilm

from asr_kd.errors import UserError
from asr_kd.wfst.lexicon import BACKOFF


def grammar(arpa: Path, words: Path) -> kaldifst.StdVectorFst:
    """Word acceptor, sorted by input label: `#0` on the back-off arcs, `<s>` and `</s>` become start and final states.

    UserError when the ARPA file is missing or kaldilm cannot read it.
    """
    if not arpa.exists():
        raise UserError(f"{arpa}: missing; run --stage 2 (lang)")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "G.fst")
        try:
            with _silent_stderr():
                kaldilm.arpa2fst(
                    str(arpa), output_fst=path, disambig_symbol=BACKOFF, read_symbol_table=str(words), max_arpa_warnings=0
                )
        except RuntimeError as error:
            raise UserError(f"{arpa}: not a valid ARPA file ({str(error).splitlines()[0]}); check lang.ngram.arpa") from None
        return kaldifst.StdVectorFst.read(path)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """kaldilm logs to file descriptor 2 from C++, out of reach of Python's logging."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
