"""MNIST's four files from a mirror, each checked before it gets its name."""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.files import atomic_path

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"
TIMEOUT_SECONDS = 60
# SHA-256 of the unpacked contents: the same however a mirror compressed them.
CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def download_mnist(folder: Path, mirror: str = MIRROR) -> None:
    """Fetch what `folder` lacks. Raises UserError when a file cannot be had or is not the published one."""
    for path in missing_files(folder):
        try:
            with urllib.request.urlopen(f"{mirror}/{path.name}", timeout=TIMEOUT_SECONDS) as answer:
                packed = answer.read()
            found = hashlib.sha256(gzip.decompress(packed)).hexdigest()
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            raise UserError(f"{mirror}/{path.name}: cannot be fetched ({error}); put the file into {folder}") from None
        if found != CHECKSUMS[path.stem]:
            raise UserError(f"{mirror}/{path.name}: not the published file; get it elsewhere and put it into {folder}")
        with atomic_path(path) as temporary:
            temporary.write_bytes(packed)


def missing_files(folder: Path) -> list[Path]:
    """The packed files that are in `folder` neither packed nor unpacked."""
    paths = [folder / f"{name}.gz" for name in CHECKSUMS]
    return [path for path in paths if not (path.exists() or path.with_suffix("").exists())]
