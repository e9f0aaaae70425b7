"""Corruptions: the numbers of the paper, worse with each severity, the same pixels for all models, as its formulas say.

Run with: pytest tests/data/test_corruptions.py
"""

import hashlib
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from thaw.data.corruptions import AMOUNTS, SEVERITIES, corrupt
from thaw.data.decode import Pixels
from thaw.params import Corruption

NAMES: tuple[Corruption, ...] = get_args(Corruption)


def draw_square(side_px: int = 64, *, seed: int = 0) -> Pixels:
    """Something like a photo: waves of every length, the longer the stronger, of all colours; black and white."""
    random = np.random.default_rng(seed)
    waves = np.hypot(np.fft.fftfreq(side_px)[:, None], np.fft.rfftfreq(side_px))[..., None]
    spectrum = np.fft.rfft2(random.standard_normal((side_px, side_px, 3)), axes=(0, 1)) / np.maximum(waves, 1 / side_px)
    square = np.fft.irfft2(spectrum, (side_px, side_px), axes=(0, 1))
    square = 128 + 60 * square / square.std()
    square[: side_px // 4, : side_px // 4] = 0
    square[: side_px // 4, -side_px // 4 :] = 255
    return np.asarray(square.clip(0, 255), np.uint8)


def distance(a: Pixels, b: Pixels) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def test_every_name_has_five_amounts() -> None:
    assert tuple(AMOUNTS) == NAMES
    assert {len(amounts) for amounts in AMOUNTS.values()} == {len(SEVERITIES)}


@pytest.mark.parametrize("name", NAMES)
def test_each_severity_is_farther_from_the_image(name: Corruption) -> None:
    square = draw_square()
    before = square.copy()
    distances = [distance(corrupt(square, name, severity=severity), square) for severity in SEVERITIES]
    assert distances[0] > 1
    if name == "pixelate":
        # Where blocks are whole px (0.5 and 0.25 of the side), they fit better than those of the severity before.
        distances = [min(distances[:2]), *distances[2:4]]
    assert distances == sorted(set(distances)), distances
    np.testing.assert_array_equal(square, before, "the original is left alone")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_image_gives_the_same_pixels_and_another_one_other_noise(name: Corruption) -> None:
    square = draw_square()
    first, again = (corrupt(square, name, severity=3) for _ in range(2))
    assert (first.shape, first.dtype) == (square.shape, square.dtype)
    assert first.tobytes() == again.tobytes()
    if "noise" in name:
        other = square.copy()
        other[-1, -1, -1] ^= 1
        assert np.mean(corrupt(other, name, severity=3) != first) > 0.1


def test_two_kinds_of_noise_are_two_streams() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    noise = [corrupt(grey, name, severity=1).astype(np.float64).ravel() for name in ("gaussian_noise", "shot_noise")]
    assert abs(stats.pearsonr(*noise).statistic) < 0.05


def test_noise_has_the_moments_that_the_formulas_say() -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    share = 128 / 255
    for severity, deviation in zip(SEVERITIES[:3], AMOUNTS["gaussian_noise"][:3], strict=True):
        found = corrupt(grey, "gaussian_noise", severity=severity) / 255
        assert (found.mean(), found.std()) == pytest.approx((share, deviation), rel=0.03)
    photons = AMOUNTS["shot_noise"][1]
    found = corrupt(grey, "shot_noise", severity=2) / 255
    assert (found.mean(), found.std()) == pytest.approx((share, (share / photons) ** 0.5), rel=0.03)
    hit = corrupt(grey, "impulse_noise", severity=5) != 128
    assert hit.mean() == pytest.approx(AMOUNTS["impulse_noise"][4], rel=0.03)
    assert np.isin(corrupt(grey, "impulse_noise", severity=5), (0, 128, 255)).all()


def test_a_point_out_of_focus_is_a_disk_of_its_light() -> None:
    dark = np.zeros((64, 64, 3), np.uint8)
    dark[30:35, 30:35] = 255
    for severity, radius_px in ((1, 3), (5, 10)):
        blurred = corrupt(dark, "defocus_blur", severity=severity).astype(np.float64)
        assert blurred.sum() == pytest.approx(dark.astype(np.float64).sum(), rel=0.02)
        rows = np.flatnonzero(blurred.sum(axis=(1, 2)))
        assert abs((rows[-1] - rows[0] + 1) - (5 + 2 * radius_px)) <= 2
    even = np.full((64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(corrupt(even, "defocus_blur", severity=5), even)
    np.testing.assert_array_equal(corrupt(even, "gaussian_blur", severity=5), even)


def test_brightness_keeps_hue_and_contrast_keeps_the_mean() -> None:
    coloured = np.full((16, 16, 3), (100, 40, 0), np.uint8)
    assert corrupt(coloured, "brightness", severity=2)[0, 0].tolist() == [151, 60, 0]  # 100 + 0.2 * 255
    assert corrupt(coloured * 0, "brightness", severity=2)[0, 0].tolist() == [51, 51, 51]
    square = draw_square()
    flat = corrupt(square, "contrast", severity=5).astype(np.float64)
    np.testing.assert_allclose(flat.mean(axis=(0, 1)), square.mean(axis=(0, 1)), atol=0.5)
    np.testing.assert_allclose(flat.std(axis=(0, 1)), 0.05 * square.std(axis=(0, 1)), rtol=0.1)


def test_pixelate_leaves_blocks() -> None:
    square = draw_square()
    coarse = corrupt(square, "pixelate", severity=5)
    blocks = coarse.reshape(16, 4, 16, 4, 3)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


def test_the_pixels_are_those_of_the_last_release() -> None:
    """Other pixels would be another test: whoever changes them on purpose changes this hash."""
    square = draw_square()
    noisy = corrupt(square, "impulse_noise", severity=2)
    assert hashlib.sha256(noisy.tobytes()).hexdigest()[:16] == "b23022e8af456161"
