"""Layers computed a few rows at a time against the same layers on the whole image, and the other building blocks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

from regbench.methods.nets import streams  # noqa: E402
from regbench.methods.nets.blocks import activated, convolution, doubling, halved, unit_to_voxels  # noqa: E402
from regbench.methods.nets.fourier_net import from_low_frequencies  # noqa: E402
from regbench.methods.nets.streams import streamed  # noqa: E402

SHAPES = {2: (44, 18), 3: (44, 6, 10)}


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_ONEDNN_FROM", 0)
    torch.manual_seed(0)


def _chains(ndim: int) -> dict[str, list[nn.Module]]:
    return {
        "one": [convolution(ndim, 3, 4)],
        "deep": [activated(ndim, 3, 5, nn.PReLU), convolution(ndim, 5, 4, 5), nn.Softsign(), convolution(ndim, 4, 2)],
        "wide": [convolution(ndim, 3, 2, 7, bias=False), convolution(ndim, 2, 2, 1)],
        "halving": [activated(ndim, 3, 4, nn.LeakyReLU, stride=2), convolution(ndim, 4, 2)],
        "quartering": [convolution(ndim, 3, 4, stride=2), convolution(ndim, 4, 2, 5, stride=2)],
    }


@pytest.mark.parametrize("name", _chains(2))
@pytest.mark.parametrize("ndim", [2, 3])
def test_streamed_layers_are_those_of_the_whole_image(ndim: int, name: str) -> None:
    layers, image = _chains(ndim)[name], torch.randn(1, 3, *SHAPES[ndim])
    read: list[slice] = []

    def rows_of(rows: slice) -> list[torch.Tensor]:
        read.append(rows)
        return [image[:, :2, rows], image[:, 2:, rows]]

    with torch.inference_mode():
        whole = nn.Sequential(*layers)(image)
        streamed_one = streamed(layers, rows_of, image.shape[2])
    assert len(read) > 3, "the image was not cut into rows"
    assert all(rows.start % 2 == 0 and rows.stop % 2 == 0 for rows in read)
    torch.testing.assert_close(streamed_one, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_rows", [2, 6, 9, 16, 21])
def test_any_number_of_rows_will_do(n_rows: int) -> None:
    layers, image = [convolution(2, 1, 2, 5), convolution(2, 2, 1)], torch.randn(1, 1, n_rows, 7)
    with torch.inference_mode():
        found = streamed(layers, lambda rows: [image[:, :, rows]], n_rows)
        torch.testing.assert_close(found, nn.Sequential(*layers)(image), atol=1e-5, rtol=1e-5)


def test_rows_of_the_coarser_grid_are_doubled_where_they_belong() -> None:
    up, last = doubling(3, 4, 2, nn.PReLU), convolution(3, 3, 1)
    coarse, fine = torch.randn(1, 4, 22, 3, 5), torch.randn(1, 1, 44, 6, 10)
    with torch.inference_mode():
        found = streamed([last], lambda rows: [up(coarse[:, :, halved(rows)]), fine[:, :, rows]], 44)
        torch.testing.assert_close(found, last(torch.cat([up(coarse), fine], 1)), atol=1e-5, rtol=1e-5)


def test_one_unit_is_half_the_way_between_the_outer_voxels() -> None:
    found = unit_to_voxels(torch.ones(1, 3, 3, 5, 9))
    assert found.amax((0, 2, 3, 4)).tolist() == [1.0, 2.0, 4.0]


def test_low_frequencies_give_back_what_has_no_others() -> None:
    """A wave that the band holds comes back at every pixel, as bright as the share of the band says."""
    along, across = torch.meshgrid(torch.arange(32) / 32, torch.arange(48) / 48, indexing="ij")
    wave = torch.cos(2 * torch.pi * (2 * along - 3 * across) + 0.3)[None, None]
    band = wave[..., ::4, ::4]
    torch.testing.assert_close(from_low_frequencies(band, (32, 48)), wave / 16, atol=1e-6, rtol=0)
