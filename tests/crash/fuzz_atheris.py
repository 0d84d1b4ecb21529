"""Fuzzing, guided by coverage, of all that reads files of others: any bytes are read, or refused in one line.

    python tests/crash/fuzz_atheris.py                          # all targets, a minute each
    python tests/crash/fuzz_atheris.py lexicon --seconds 600    # one of them
    python tests/crash/fuzz_atheris.py lexicon --again FILE     # what a crash left

Needs atheris (libFuzzer for Python). A crash prints its traceback, leaves its input as a file in the working directory
and ends with status 77. What tests/test_fuzz.py and tests/hmm/test_damage.py try in seconds is tried here for as long
as one likes.
"""

import argparse
import contextlib
import gzip
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
TARGETS = ("recipe", "lexicon", "arpa", "kaldi", "manifests", "cuts", "frames", "targets", "model", "gmm")


@dataclass(frozen=True)
class Target:
    """files: whole ones, by name, of which the first byte of an input chooses one, and its other bytes replace it;
    read: what is done with the folder that they are in; packed: whether files are compressed before they are written.
    """

    files: dict[str, bytes]
    read: Callable[[Path], object]
    packed: bool = False

    def write(self, folder: Path, name: str, content: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, 1, mtime=0) if self.packed else content)

    def inputs(self) -> list[bytes]:
        """To begin with: every whole file."""
        return [bytes([number]) + content for number, content in enumerate(self.files.values())]


def written_by(write: Callable[[Path], object]) -> dict[str, bytes]:
    """The files that `write` leaves in a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def make_target(name: str, folder: Path) -> Target:
    """The target; folder: where its files will be."""
    known = importlib.import_module("test_fuzz")
    if name == "recipe":
        return Target({"r.yaml": known.RECIPE}, lambda root: known.load_recipe(root / "r.yaml"))
    if name == "lexicon":
        entries = b"<sil> SIL\na AH0\na EY1\ntomato T AH M EY T OW\n"
        return Target({"l.txt": entries}, lambda root: known.Lexicon.read(root / "l.txt").without_stress().phones)
    if name == "arpa":
        return Target(
            {"lm.arpa": known.ARPA}, lambda root: known.Arpa.read(root / "lm.arpa").perplexity([["a"], ["c"]])
        )
    if name == "cuts":
        line = b'{"id": "a", "start": 0.25, "duration": 0.5, "channel": 0, "supervisions": [{"id": "a", '
        line += b'"recording_id": "r", "start": 0.0, "duration": 0.5, "text": "you", "speaker": "s"}], "recording": '
        line += b'{"id": "r", "sources": [], "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}, '
        line += b'"type": "MonoCut"}\n'

        def read(root: Path) -> None:
            with contextlib.suppress(known.UserError):
                [known.words_of(cut) for cut in known.read_cuts(root / "c.jsonl.gz")]

        return Target({"c.jsonl.gz": line}, read, packed=True)
    if name in ("kaldi", "manifests"):
        return corpus_target(name, folder, known)
    return array_target(name, known)


def corpus_target(name: str, folder: Path, known: Any) -> Target:
    import numpy
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("wav", "flac"):
        soundfile.write(folder / f"rec.{suffix}", numpy.random.default_rng(0).uniform(-0.5, 0.5, 16000), 16000)
    part = {"train": ("part",), "dev": ("dev",), "test": ("test",), "dir": str(folder)}
    if name == "kaldi":
        files = {(Path("part") / key).as_posix(): text for key, text in known.kaldi_files(folder).items()}
        files = {os.path.normpath(key): text for key, text in files.items()}
        for split in ("dev", "test"):
            (folder / split).mkdir(exist_ok=True)
            (folder / split / "wav.scp").write_text(f"{split} {folder}/rec.flac\n")
            (folder / split / "text").write_text(f"{split} you\n")
            (folder / split / "utt2spk").write_text(f"{split} {split}\n")
        corpus = known.Corpus(kind="kaldi", untrusted=True, max_bad_fraction=1, **part)
        return Target(files, lambda root: known.checked(corpus, known.read_kaldi))
    manifests = importlib.import_module("asr_kd.corpora.json_manifests")
    recording = b'{"id": "r", "sources": [{"type": "file", "channels": [0], "source": "rec.wav"}], '
    recording += b'"sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}\n'
    spoken = b'{"id": "a", "recording_id": "r", "start": 0.1, "duration": 0.5, "text": "you", "speaker": "s"}\n'
    listed = b'{"id": "a", "speaker": "s", "text": "you", "audio": "rec.wav", "start": 0.1, "end": 0.5}\n'
    files = {"x_recordings_part.jsonl": recording, "x_supervisions_part.jsonl": spoken, "part.jsonl": listed}
    for split in ("dev", "test"):
        for file, content in files.items():
            named = content.replace(b'"r"', f'"{split}"'.encode()).replace(b'"a"', f'"{split}"'.encode())
            (folder / file.replace("part", split)).write_bytes(named.replace(b'"s"', f'"{split}"'.encode()))
    lhotse, own = (
        known.Corpus(kind=kind, untrusted=True, max_bad_fraction=1, **part) for kind in ("lhotse", "manifest")
    )

    def read(root: Path) -> None:
        with contextlib.suppress(known.UserError):
            known.checked(lhotse, manifests.read_lhotse)
        known.checked(own, manifests.read_manifest)

    return Target(files, read)


def array_target(name: str, known: Any) -> Target:
    import numpy
    import torch

    if name == "frames":
        rows = {f"u{number}": numpy.full((5 + number, 4), number, numpy.float16) for number in range(3)}

        def read_frames(root: Path) -> None:
            store = known.FrameStore(root)
            assert all(len(store[utterance]) == store.frames(utterance) for utterance in store)

        return Target(written_by(lambda root: known.write_store(root, rows, {"kind": "fbank"})), read_frames)
    if name == "targets":
        frames = known.Frames(torch.zeros(9, 2), torch.zeros(9, dtype=torch.int64), ["a", "b"], torch.tensor([0, 4, 9]))

        def write_targets(root: Path) -> None:
            writer = known.StoreWriter(root)
            log_post = torch.randn(9, 12, generator=known.generator((0,))).log_softmax(1)
            writer.add(known.condense(log_post, 3, (1.0, 2.0)))
            writer.finish(frames, {"num_pdfs": 12, "top_k": 3, "temperatures": [1.0, 2.0], "teachers": {"m": "abc"}})

        def read_targets(root: Path) -> None:
            store = known.TargetStore(root)
            store.check({"teachers": {"m": "abc"}})
            store.gather(store.rows_of(frames).numpy())

        return Target(written_by(write_targets), read_targets)
    if name == "model":
        model = known.AcousticModel(known.Network(left=1, right=1, layers=1, width=8), 4, 5)
        model.initialise(known.generator((0,)))
        return Target(
            written_by(lambda root: model.save(root, {})), lambda root: known.load_model(root)(torch.zeros(2, 3, 4))
        )
    damage = importlib.import_module("test_damage")
    return Target(written_by(damage.adapted_step().save), damage.use)


def fuzz(name: str, seconds: float, again: Path | None) -> None:
    """Fuzz one target in this process, which atheris ends."""
    import atheris

    sys.path[:0] = [str(TESTS), str(TESTS / "hmm")]
    with atheris.instrument_imports(include=["asr_kd"]), tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        target = make_target(name, folder / "files")
        for file, content in target.files.items():
            target.write(folder / "files", file, content)
        refused = importlib.import_module("asr_kd.errors").UserError
        target.read(folder / "files")  # whole files are read
        names = list(target.files)

        def one_input(data: bytes) -> None:
            file = names[data[0] % len(names) if data else 0]
            target.write(folder / "files", file, data[1:])
            try:
                target.read(folder / "files")
            except refused as error:
                assert len(str(error).splitlines()) == 1, str(error)
            finally:
                target.write(folder / "files", file, target.files[file])

        known_inputs = folder / "inputs"
        known_inputs.mkdir()
        for number, data in enumerate(target.inputs()):
            (known_inputs / str(number)).write_bytes(data)
        what = [str(again)] if again else [f"-max_total_time={seconds:.0f}", "-verbosity=0", str(known_inputs)]
        atheris.Setup([sys.argv[0], "-timeout=20", *what], one_input)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=TARGETS, help="[default: all, one after the other]")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one input")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed; get it with: pip install atheris\n")
        return 2
    if arguments.target:
        fuzz(arguments.target, arguments.seconds, arguments.again)
        return 0
    failed = []
    for name in TARGETS:
        command = [sys.executable, __file__, name, "--seconds", str(arguments.seconds)]
        ended = subprocess.run(command, check=False).returncode
        sys.stdout.write(f"{name}: {'no crash' if ended == 0 else f'status {ended}'}\n")
        sys.stdout.flush()
        failed += [name] * (ended != 0)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
