import torch

from asr_kd.features.splice import splice, window_rows


def spliced_frame_by_frame(features: torch.Tensor, left: int, right: int) -> torch.Tensor:
    last = len(features) - 1
    windows = [
        [features[min(max(frame + offset, 0), last)] for offset in range(-left, right + 1)]
        for frame in range(len(features))
    ]
    return torch.stack([torch.cat(window) for window in windows])


def test_splice_repeats_the_edge_frames() -> None:
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    for left, right in ((0, 0), (2, 1), (20, 5)):
        assert torch.equal(splice(features, left, right), spliced_frame_by_frame(features, left, right))


def test_windows_stay_inside_their_utterance() -> None:
    utterances = torch.randn(9, 4).split([2, 6, 1])
    frames = torch.cat(utterances)
    first = torch.tensor([0, 0, 2, 2, 2, 2, 2, 2, 8])
    last = torch.tensor([1, 1, 7, 7, 7, 7, 7, 7, 8])
    rows = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    windows = frames[window_rows(rows, first[rows], last[rows], left=3, right=2)]
    expected = torch.cat([spliced_frame_by_frame(utterance, 3, 2) for utterance in utterances])
    assert torch.equal(windows.flatten(1), expected[rows])
