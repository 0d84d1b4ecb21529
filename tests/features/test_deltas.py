import torch

from asr_kd.features.deltas import add_deltas


def regression_slopes(signal: torch.Tensor) -> torch.Tensor:
    """Slope of the least-squares line through each interior value and its two neighbours on either side."""
    time = torch.arange(-2.0, 3.0, dtype=signal.dtype)
    return signal.unfold(0, 5, 1) @ time / torch.sum(time**2)


def test_interior_frames_are_regression_slopes_of_slopes() -> None:
    signal = torch.randn(30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features = add_deltas(signal)
    velocity = regression_slopes(signal[:, 0])
    acceleration = regression_slopes(velocity)
    assert features.shape == (30, 3)
    torch.testing.assert_close(features[:, 0], signal[:, 0])
    torch.testing.assert_close(features[2:-2, 1], velocity)
    torch.testing.assert_close(features[4:-4, 2], acceleration)


def test_columns_are_statics_then_velocity_then_acceleration() -> None:
    time = torch.arange(20.0, dtype=torch.float64)
    features = add_deltas(torch.stack([3 * time, time**2], dim=1))
    torch.testing.assert_close(features[10], torch.tensor([30.0, 100, 3, 20, 0, 2], dtype=torch.float64))


def test_edges_filter_the_repeated_edge_frame() -> None:
    """Kaldi's order-2 filter runs once over the padded statics; twice with padding in between differs at the edge."""
    features = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([features[:1].expand(50, 2), features, features[-1:].expand(50, 2)])
    torch.testing.assert_close(add_deltas(features), add_deltas(padded)[50:-50])
