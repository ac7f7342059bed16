"""Every mode, depth and value set comes to one form; what does not is refused."""

import io
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

from kmunet.data.decode import decode_image
from kmunet.data.masks import decode_mask
from kmunet.errors import DataError, PairError, UnreadableError

RAMP = np.arange(12 * 10 * 3, dtype=np.uint32).reshape(12, 10, 3) % 256
RGB = RAMP.astype(np.uint8)
TRUTH = np.zeros((12, 10), np.uint8)
TRUTH[3:7, 2:6] = 1


def encode(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_colour_is_kept(kind):
    np.testing.assert_array_equal(decode_image(encode(RGB, kind), "i"), RGB)


def test_grey_is_replicated():
    pixels = decode_image(encode(RGB[:, :, 0]), "i")
    assert pixels.shape == (12, 10, 3)
    assert (pixels == RGB[:, :, :1]).all()


def test_alpha_is_dropped_without_blending():
    rgba = np.dstack([RGB, np.zeros((12, 10), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(rgba), "i"), RGB)
    grey_alpha = Image.fromarray(rgba[:, :, 0]).convert("LA")
    assert (decode_image(encode(grey_alpha), "i") == RGB[:, :, :1]).all()


def test_a_palette_is_resolved():
    image = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encode(image), "i"), expected)


def test_sixteen_bits_are_scaled_by_257():
    values = np.array([[0, 257, 128, 129, 65535]], np.uint16)
    expected = np.array([0, 1, 0, 1, 255], np.uint8)
    for data in (encode(values), encode_tiff(values)):
        np.testing.assert_array_equal(decode_image(data, "i")[0, :, 0], expected)


def test_sixteen_bit_colour_tiff_is_scaled():
    data = encode_tiff(RGB.astype(np.uint16) * 257, photometric="rgb")
    np.testing.assert_array_equal(decode_image(data, "i"), RGB)


def test_a_tiff_that_pillow_refuses_keeps_its_colours():
    data = encode_tiff(RGB, photometric="minisblack", planarconfig="contig")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decode_image(data, "i"), RGB)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("shape", [(12, 10), (12, 3), (3, 4)])
def test_a_tiff_of_three_planes_is_read_right(depth, photometric, shape):
    random = np.random.default_rng(0)
    eight = random.integers(0, 256, (*shape, 3), np.uint8)
    stored = eight if depth == np.uint8 else eight.astype(np.uint16) * 257
    planes = np.ascontiguousarray(np.moveaxis(stored, 2, 0))
    data = encode_tiff(planes, photometric=photometric, planarconfig="separate")
    np.testing.assert_array_equal(decode_image(data, "i"), eight)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("shape", [(5, 12, 10), (12, 10, 5)])
def test_a_tiff_of_many_channels_is_refused_not_cut(depth, photometric, shape):
    planar = "separate" if shape[0] == 5 else "contig"
    data = encode_tiff(
        np.zeros(shape, depth), photometric=photometric, planarconfig=planar
    )
    with pytest.raises(UnreadableError, match=r"5 channels, .* three as RGB"):
        decode_image(data, "i.tif")
    with pytest.raises(UnreadableError, match="5 channels"):
        decode_mask(data, "i.tif")


def test_two_planes_are_grey_and_another():
    planes = np.stack([RGB[:, :, 0], RGB[:, :, 1]])
    data = encode_tiff(planes, photometric="minisblack", planarconfig="separate")
    assert (decode_image(data, "i") == RGB[:, :, :1]).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.bool_])
def test_a_tiff_in_which_white_is_zero_is_read_as_it_looks(depth, order):
    shown = TRUTH.astype(np.bool_)
    values = ~shown if depth == np.bool_ else (1 - TRUTH) * depth(np.iinfo(depth).max)
    data = encode_tiff(values.astype(depth), photometric="miniswhite", byteorder=order)
    np.testing.assert_array_equal(decode_image(data, "i")[..., 0], TRUTH * 255)
    np.testing.assert_array_equal(decode_mask(data, "m")[0], TRUTH)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = decode_image(encode(RGB, "PNG", exif=exif), "i")
    odd_tiff = encode_tiff(
        RGB,
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, "H", 1, orientation, True)],
    )
    assert pixels.shape[:2] == ((12, 10) if orientation < 5 else (10, 12))
    np.testing.assert_array_equal(decode_image(odd_tiff, "i"), pixels)


@pytest.mark.parametrize("full", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_masks_of_both_value_sets_read_right(full, mode):
    data = encode(Image.fromarray(TRUTH * np.uint8(full)).convert(mode))
    mask, grey = decode_mask(data, "m")
    np.testing.assert_array_equal(mask, TRUTH)
    assert mask.dtype == np.uint8
    assert not grey


def test_a_mask_of_one_bit():
    mask, _ = decode_mask(
        encode(Image.fromarray(TRUTH * np.uint8(255)).convert("1")), "m"
    )
    np.testing.assert_array_equal(mask, TRUTH)


@pytest.mark.parametrize("full", [1, 255, 65535])
def test_masks_of_sixteen_bits(full):
    mask, _ = decode_mask(encode(TRUTH.astype(np.uint16) * full), "m")
    np.testing.assert_array_equal(mask, TRUTH)


def test_a_coloured_palette_counts_by_index():
    image = Image.fromarray(TRUTH, "L").convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0])  # VOC: class 1 is dark red
    mask, _ = decode_mask(encode(image), "m")
    np.testing.assert_array_equal(mask, TRUTH)


def test_a_grey_palette_counts_by_its_greys():
    image = Image.fromarray(1 - TRUTH, "L").convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
    mask, _ = decode_mask(encode(image), "m")
    np.testing.assert_array_equal(mask, TRUTH)


def test_grey_edges_are_cut_at_half_and_told():
    values = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    mask, grey = decode_mask(encode(values), "m")
    assert mask.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert grey


def test_empty_and_full_masks():
    for value, expected in ((0, 0), (1, 1), (255, 1)):
        mask, grey = decode_mask(encode(np.full((4, 4), value, np.uint8)), "m")
        assert (mask == expected).all()
        assert not grey


@pytest.mark.parametrize("top", [2, 7, 127])
def test_ids_are_refused_not_lost(top):
    ids = np.array([[0, 1, top]], np.uint8)
    with pytest.raises(PairError, match=f"m.png: mask values 0 to {top}; .*merge"):
        decode_mask(encode(ids), "m.png")
    with pytest.raises(PairError):
        decode_mask(encode(np.array([[0, 300]], np.uint16)), "m.png")


def test_pages_and_floats_are_refused():
    with pytest.raises(UnreadableError, match="several pages"):
        decode_image(encode_tiff(np.stack([RGB[:, :, 0]] * 2)), "i.tif")
    with pytest.raises(UnreadableError, match="float32"):
        decode_image(encode_tiff(RGB[:, :, 0].astype(np.float32)), "i.tif")


@pytest.mark.parametrize(
    "data", [b"", b"GIF", b"<html>", b"\x89PNG\r\n\x1a\n", b"II*\0"]
)
def test_what_is_no_image_is_named(data):
    with pytest.raises(UnreadableError, match=r"^i\.png: cannot be read as an image"):
        decode_image(data, "i.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_truncated_image_is_unreadable(kind):
    data = encode(
        np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8), kind
    )
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableError, match="i"):
            decode_image(data[: int(len(data) * share)], "i")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_damaged_bytes_raise_nothing_but_data_errors(kind):
    random = np.random.default_rng(1)
    whole = encode(RGB, kind)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 200), 4):
            data[place] = random.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = decode_image(bytes(data), "i")
            except DataError as error:
                assert str(error).startswith("i: ")  # noqa: PT017
            else:
                assert pixels.dtype == np.uint8
                assert pixels.shape[2] == 3
