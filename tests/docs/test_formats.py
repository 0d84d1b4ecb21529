"""docs/formats.md is enough to read a store: the code on that page does, with numpy and json alone."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.distill import store
from asr_kd.distill.store import StoreWriter, condense
from asr_kd.features.store import clear_store, write_index, write_shard
from asr_kd.nn.frames import Frames

BLOCK = re.compile(r"(?:^    .+\n(?:\n(?=    ))?)+", re.MULTILINE)


def code_of(repository: Path, title: str) -> str:
    """The indented block of a section that reads a store."""
    page = (repository / "docs" / "formats.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    (block,) = [block for block in BLOCK.findall(section) if "np.load" in block]
    return textwrap.dedent(block)


def read(code: str, utterance: str, **paths: Path) -> dict[str, Any]:
    """What the page's code has made of an utterance."""
    names: dict[str, Any] = {"np": np, "json": json, **paths}
    exec(code.replace('"ID"', repr(utterance)), names)
    return names


def test_an_alignment_is_read_by_the_page_alone(tmp_path: Path, repository: Path) -> None:
    draws = np.random.default_rng(0)
    rows = {f"u{i}": draws.integers(-1, 500, (draws.integers(3, 9), 6)).astype(np.int16) for i in range(5)}
    clear_store(tmp_path)
    shards = [
        write_shard(tmp_path, 0, {name: rows[name] for name in ("u0", "u1")}),
        write_shard(tmp_path, 2, {name: rows[name] for name in ("u2", "u3", "u4")}),
    ]
    write_index(tmp_path, shards, {"num_pdfs": 500, "tree_hash": "toy"})
    code = code_of(repository, "Frame store")
    for name, expected in rows.items():
        found = read(code, name, store=tmp_path)["rows"]
        assert found.dtype == np.int16 and np.array_equal(found, expected)


def test_soft_targets_are_read_and_softened_by_the_page_alone(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperatures, k, states = (1.0, 2.0, 5.0), 4, 30
    draws = torch.Generator().manual_seed(0)
    log_post = (3 * torch.randn(50, states, generator=draws)).log_softmax(1)
    starts = torch.tensor([0, 13, 14, 37, 50])
    frames = Frames(torch.zeros(50, 1), torch.zeros(50, dtype=torch.int64), ["a", "b", "c", "d"], starts)
    monkeypatch.setattr(store, "SHARD_BYTES", 200)  # an utterance lies in several shards
    writer = StoreWriter(tmp_path)
    for batch in log_post.split(7):
        writer.add(condense(batch.clone(), k, temperatures))
    writer.finish(frames, {"num_pdfs": states, "top_k": k, "temperatures": temperatures})
    assert len(list(tmp_path.glob("states-*.npy"))) > 3

    code = code_of(repository, "Soft targets")
    for number, name in enumerate(frames.utterances):
        dense = log_post[starts[number] : starts[number + 1]].numpy()
        found = {
            array: read(code.replace("log_post", array), name, targets=tmp_path)[array]
            for array in ("log_post", "states", "log_tail")
        }
        order = np.argsort(-dense, axis=1)[:, :k]
        assert np.array_equal(found["states"], order)
        for column, temperature in enumerate(temperatures):
            kept = np.exp(found["log_post"].astype(np.float64) / temperature)
            tail = np.exp(found["log_tail"][:, column].astype(np.float64))
            total = kept.sum(1) + tail
            soft = np.exp(dense.astype(np.float64) / temperature)
            soft /= soft.sum(1, keepdims=True)
            assert np.allclose(kept / total[:, None], np.take_along_axis(soft, order, 1), atol=2e-3)
            assert np.allclose(tail / total, 1 - np.take_along_axis(soft, order, 1).sum(1), atol=2e-3)
