"""`asr-kd transcribe`, also `python -m asr_kd.deploy`, which needs no more than the packages it runs on."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from asr_kd.errors import UserError

if TYPE_CHECKING:
    from asr_kd.deploy.recogniser import Recogniser
    from asr_kd.deploy.stream import Partial
    from asr_kd.deploy.transcript import Transcript

STANDARD_INPUT = Path("-")


def transcribe(
    bundle: Annotated[Path, typer.Argument(metavar="DIR", help="Bundle made by asr-kd export.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", help="Recordings: WAV, FLAC, Ogg, MP3; any sample rate.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, words with times.")] = False,
    ctm: Annotated[
        bool, typer.Option("--ctm", help="Lines: file, channel, start, duration, word, confidence.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes; without it, the machine's cores.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="The network with weights of 8 bits.")] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Raw 16-bit PCM, one channel, from one FILE or standard input, as it comes."),
    ] = False,
) -> None:
    """Recognise speech with an exported bundle; prints `FILE word word …` a line.

    A file that cannot be transcribed is reported, and the exit status is 2.

    With --stream, a sentence is printed at each pause, before that on standard error.
    """
    try:
        failed = _transcribe(bundle, files or [], as_json, ctm, jobs or os.cpu_count() or 1, int8, stream)
    except UserError as error:
        _complain(error)
        failed = True
    if failed:
        raise typer.Exit(2)


def _transcribe(root: Path, files: list[Path], as_json: bool, ctm: bool, jobs: int, int8: bool, stream: bool) -> bool:
    """Print results as they are ready; True when one file or more could not be transcribed."""
    from asr_kd.deploy.bundle import load_bundle
    from asr_kd.deploy.files import transcribe_files
    from asr_kd.deploy.recogniser import Recogniser

    if as_json and ctm:
        raise UserError("--json and --ctm: choose one of the two")
    if stream and len(files) > 1:
        raise UserError(f"--stream: reads one file or standard input, these are {len(files)}")
    if not (files or stream):
        raise UserError("transcribe: name a file, or use --stream to read standard input")
    recogniser = Recogniser.load(load_bundle(root), int8)
    if stream:
        _transcribe_stream(recogniser, files[0] if files else STANDARD_INPUT, as_json, ctm)
        return False
    failed = False
    for result in transcribe_files(recogniser, files, jobs):
        if isinstance(result, UserError):
            _complain(result)
            failed = True
        elif as_json or result.words or not ctm:
            typer.echo(_written(result, as_json, ctm))
    return failed


def _transcribe_stream(recogniser: "Recogniser", path: Path, as_json: bool, ctm: bool) -> None:
    from asr_kd.deploy.stream import Partial, transcribe_stream

    with _opened(path) as file:
        for event in transcribe_stream(recogniser, file, str(path)):
            if isinstance(event, Partial):
                _show(event, as_json)
            else:
                _show_partial("")
                typer.echo(event.text if not (as_json or ctm) else _written(event, as_json, ctm))


def _written(transcript: "Transcript", as_json: bool, ctm: bool) -> str:
    return transcript.as_json() if as_json else transcript.as_ctm() if ctm else transcript.as_text()


def _show(partial: "Partial", as_json: bool) -> None:
    if as_json:
        typer.echo(partial.as_json())
    else:
        _show_partial(f"… {partial.text}")


def _show_partial(text: str) -> None:
    """On standard error: a terminal's last line is written again, elsewhere each is a line."""
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns - 1
        typer.echo(f"\r\x1b[K{text[-columns:]}", err=True, nl=False)
    elif text:
        typer.echo(text, err=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    with file:
        yield file


def _complain(error: UserError) -> None:
    typer.secho(f"asr-kd: {error}", fg=typer.colors.RED, err=True)
