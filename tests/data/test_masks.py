"""Mask values as classes: by number, by colour, as instance ids, and beyond these."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kmunet.data.integrity import check
from kmunet.data.masks import BINARY, INSTANCES, class_form, decode_mask
from kmunet.data.pack import write_packed
from kmunet.data.sources import open_source
from kmunet.data.survey import survey
from kmunet.errors import ConfigError, PairError, UnreadableError

INDEX = np.array([[0, 1, 2, 3], [0, 3, 3, 1]], np.uint8)
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def png(array, mode=None, kind="PNG"):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array, mode)
    image.save(buffer, kind)
    return buffer.getvalue()


def test_class_numbers_in_order():
    mask, grey = decode_mask(png(INDEX), "m", class_form(("a", "b", "c"), ()))
    np.testing.assert_array_equal(mask, INDEX)
    assert not grey


def test_class_numbers_as_declared_also_in_sixteen_bits():
    stored = np.array([0, 40, 20, 300], np.uint16)[INDEX]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored)
    form = class_form(("a", "b", "c"), (40, "20", 300))
    for data in (png(stored), buffer.getvalue()):
        np.testing.assert_array_equal(decode_mask(data, "m", form)[0], INDEX)


def test_colour_maps_as_rgb_or_with_a_palette():
    form = class_form(("a", "b", "c"), ("#ff0000", "#00FF00", "#0000ff"))
    palette = Image.fromarray(INDEX)
    palette.putpalette(COLOURS.flatten().tolist())
    assert palette.mode == "P"
    for data in (png(COLOURS[INDEX]), png(palette)):
        np.testing.assert_array_equal(decode_mask(data, "m", form)[0], INDEX)
    numbers = class_form(("a", "b", "c"), ())
    np.testing.assert_array_equal(decode_mask(png(palette), "m", numbers)[0], INDEX)


RED = np.array([[0, 0, 0, 0], [0, 1, 1, 0]], np.uint8)


@pytest.mark.parametrize("form", [BINARY, INSTANCES])
def test_black_is_the_background_wherever_a_palette_has_it(form):
    """Pillow's own adapted palette begins with any colour."""
    for colours in ([255, 0, 0, 0, 0, 0], [0, 0, 0, 255, 0, 0]):
        image = Image.fromarray(RED if colours[0] == 0 else 1 - RED)
        image.putpalette(colours)
        np.testing.assert_array_equal(decode_mask(png(image), "m", form)[0], RED)
    image.putpalette([255, 255, 0, 255, 0, 0])
    with pytest.raises(UnreadableError, match="no colour of its palette is black"):
        decode_mask(png(image), "m", form)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_palette_is_read_alike_whatever_of_it_an_image_uses(kind):
    """VOC's, in which class 2 is grey: an image may hold no other class."""
    form = class_form(("a", "b", "c"), ())
    for indices in (INDEX, np.minimum(INDEX, 1) * np.uint8(2), INDEX * np.uint8(0)):
        image = Image.fromarray(indices)
        image.putpalette([0, 0, 0, 128, 0, 0, 128, 128, 128, 0, 0, 128])
        mask, _ = decode_mask(png(image, kind=kind), "m", form)
        np.testing.assert_array_equal(mask, indices)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("more", [[], [255, 0, 0]])
def test_greys_in_a_palette_are_values(kind, more):
    """White at 3 is white, also beside a colour that the image does not use."""
    values = np.array([0, 90, 200, 255], np.uint8)[INDEX]
    image = Image.fromarray(INDEX)
    image.putpalette([n for n in (0, 90, 200, 255) for _ in range(3)] + more)
    mask, _ = decode_mask(png(image, kind=kind), "m")
    np.testing.assert_array_equal(mask, values > 127)
    if not more:
        form = class_form(("a", "b", "c"), (90, 200, 255))
        mask, _ = decode_mask(png(image, kind=kind), "m", form)
        np.testing.assert_array_equal(mask, INDEX)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_shape_in_alpha_alone_is_refused(mode, kind):
    image = Image.fromarray(RED * 255).convert(mode)
    np.testing.assert_array_equal(decode_mask(png(image, kind=kind), "m")[0], RED)
    black = Image.new(mode, image.size, "white")
    black.paste(Image.new(mode, image.size, "black"), mask=Image.fromarray(RED * 255))
    for hidden in (Image.new(mode, image.size, "white"), black):
        hidden.putalpha(Image.fromarray(RED * 255))
        with pytest.raises(UnreadableError, match="alpha channel alone"):
            decode_mask(png(hidden, kind=kind), "m")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_what_is_transparent_in_a_mask_is_background(kind):
    colours = np.where(RED[..., None] > 0, (255, 0, 0), 255)
    image = Image.fromarray(np.dstack([colours, RED * 255]).astype(np.uint8))
    data = png(image, kind=kind)
    for form in (BINARY, class_form(("a",), ("#ff0000",))):
        np.testing.assert_array_equal(decode_mask(data, "m", form)[0], RED)
    image.putalpha(255)  # of one value: it says nothing
    assert decode_mask(png(image, kind=kind), "m")[0].all()


def test_what_is_transparent_in_a_palette_is_background():
    image = Image.fromarray(RED)
    image.putpalette([255, 255, 255, 255, 0, 0])
    image.info["transparency"] = 0
    for form in (BINARY, class_form(("a", "b"), ()), class_form(("a",), ("#ff0000",))):
        np.testing.assert_array_equal(decode_mask(png(image), "m", form)[0], RED)


def test_refusals_hold_for_tiff_too():
    image = Image.fromarray(RED)
    image.putpalette([255, 255, 0, 255, 0, 0] + 254 * [9, 9, 0])
    with pytest.raises(UnreadableError, match="no colour of its palette is black"):
        decode_mask(png(image, kind="TIFF"), "m")


def test_values_beyond_the_classes_are_named():
    with pytest.raises(PairError, match=r"m\.png: mask values 3 beyond .*1, 2\)"):
        decode_mask(png(INDEX), "m.png", class_form(("a", "b"), ()))
    form = class_form(("a", "b"), ("#ff0000", "#00ff00"))
    with pytest.raises(PairError, match="values #0000ff beyond"):
        decode_mask(png(COLOURS[INDEX]), "m.png", form)


@pytest.mark.parametrize("top", [1, 2, 9, 254])
def test_every_instance_is_foreground(top):
    ids = np.arange(top + 1, dtype=np.uint8).reshape(1, -1)
    mask, _ = decode_mask(png(ids), "m", INSTANCES)
    np.testing.assert_array_equal(mask, ids > 0)


def test_many_instances_need_sixteen_bits():
    ids = np.arange(400, dtype=np.uint16).reshape(20, 20)
    mask, _ = decode_mask(png(ids), "m", INSTANCES)
    assert mask.sum() == 399


def test_instances_merged_to_black_and_white_keep_the_middle_threshold():
    mask, grey = decode_mask(png(np.array([[0, 90, 255]], np.uint8)), "m", INSTANCES)
    assert mask.tolist() == [[0, 0, 1]]
    assert grey


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1,), "1 for 2 classes"),
        ((1, 1), "each once"),
        ((1, "#ff0000"), "all numbers or all colours"),
        ((0, 1), "'0' is no number of 1 to 65535"),
        (("red", "#00ff00"), "'red' is no number"),
        (("#12", "#00ff00"), "'#12' is no number"),
        (("#12345g", "#00ff00"), "'#12345g' is no number"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        class_form(("a", "b"), values)


def test_a_folder_with_classes(tmp_path, save):
    save(tmp_path / "images" / "x.png", INDEX * 20)
    save(tmp_path / "masks" / "x.png", INDEX)
    with open_source("folder", tmp_path, ("a", "b", "c")) as source:
        _, mask = source.pairs()[0].read()
    np.testing.assert_array_equal(mask, INDEX)
    assert source.classes == ("a", "b", "c")


def test_a_folder_of_masks_for_each_class(tmp_path, save):
    save(tmp_path / "images" / "x.png", INDEX * 20)
    for layer in range(3):
        save(
            tmp_path / "masks" / str(layer) / "x.png",
            np.equal(INDEX, layer + 1) * 255,
        )
    with open_source("folder", tmp_path, ("a", "b", "c")) as source:
        _, mask = source.pairs()[0].read()
    np.testing.assert_array_equal(mask, INDEX)


def cups(root, save, orders, small=8):
    """Class folders by number: in each image a disc of 24 pixels with a cup inside."""
    for number, classes in enumerate(orders):
        save(root / "images" / f"{number}.png", np.full((40, 40), number + 9))
        for folder, name in enumerate(classes):
            mask = np.zeros((40, 40), np.uint8)
            half = 12 if name == "disc" else small // 2
            mask[20 - half : 20 + half, 20 - half : 20 + half] = 255
            save(root / "masks" / str(folder) / f"{number}.png", mask)


def test_a_class_that_another_covers_everywhere_is_refused(tmp_path, save):
    cups(tmp_path / "raw", save, [("cup", "disc")] * 3)
    with open_source("folder", tmp_path / "raw", ("cup", "disc")) as source:
        for use in (check, lambda s: write_packed(tmp_path / "set", s, [16])):
            with pytest.raises(
                PairError, match=r"class 'cup': later classes cover it in every mask"
            ) as caught:
                use(source)
            assert "(3, such as 0): name the class that encloses" in str(caught.value)
        found = survey(source, tmp_path)
    assert [item.kind for item in found.errors] == ["covered class"]


def test_a_class_within_one_declared_before_it_is_kept(tmp_path, save):
    cups(tmp_path / "raw", save, [("disc", "cup")] * 3)
    with open_source("folder", tmp_path / "raw", ("disc", "cup")) as source:
        _, mask = source.pairs()[0].read()
        prepared = write_packed(tmp_path / "set", source, [16])
    assert np.bincount(mask.ravel()).tolist() == [40 * 40 - 24 * 24, 24**2 - 8**2, 64]
    assert not [text for text in prepared.header["warnings"] if "class" in text]


@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_a_class_that_another_covers_here_and_there_is_told(tmp_path, save, kind):
    """Also where one value of masks lies over another, as in a manifest's rows."""
    root = tmp_path / "raw"
    cups(root, save, [("cup", "disc"), ("cup", "cup")])
    if kind == "manifest":
        for path in root.glob("masks/*/*.png"):
            value = int(path.parent.name) + 1
            save(path, np.where(np.asarray(Image.open(path)) > 0, value, 0))
        lines = [f"images/{n}.png,masks/0/{n}.png;masks/1/{n}.png" for n in (0, 1)]
        (root / "t.csv").write_text("\n".join(["image,mask", *lines]))
    rim = np.zeros((40, 40), np.uint8)
    rim[2:4] = 255 if kind == "folder" else 1
    save(root / "masks" / "0" / "1.png", rim)
    with open_source(kind, root, ("cup", "disc")) as source:
        warnings = write_packed(tmp_path / "set", source, [16]).header["warnings"]
        found = {item.kind: item for item in survey(source, tmp_path).warnings}
    text = "class 'cup' is covered by later classes, with less than 10% of it left"
    assert f"{text}: 1, 0" in warnings
    assert found["covered class"].ids == ("0",)


def test_a_declared_class_that_no_mask_holds_is_told(tmp_path, save):
    save(tmp_path / "raw" / "images" / "x.png", INDEX * 20)
    save(tmp_path / "raw" / "masks" / "x.png", INDEX)
    with open_source("folder", tmp_path / "raw", ("a", "b", "c", "d")) as source:
        warnings = write_packed(tmp_path / "set", source, [16]).header["warnings"]
        told = survey(source, tmp_path).warnings
        found = [item.message for item in told if item.kind == "absent class"]
    assert "class 'd' has no pixel in any mask" in warnings
    assert found == ["class 'd' has no pixel in any mask"]


def blobs(height=96, width=128):
    """Three ellipses, 255 on 0, of 6 to 40 pixels."""
    mask = np.zeros((height, width), np.uint8)
    for centre, axes in (
        ((30, 30), (20, 12)),
        ((90, 60), (25, 18)),
        ((60, 12), (3, 3)),
    ):
        cv2.ellipse(mask, centre, axes, 30, 0, 360, 255, -1)
    return mask


def bordered(value, border=255):
    """Three objects of `value`, each with a border of 3 pixels."""
    inside = blobs() > 0
    around = cv2.dilate(blobs(), np.ones((7, 7), np.uint8)) > 0
    return np.where(inside, value, np.where(around, border, 0)).astype(np.uint8)


def instances(most):
    """Squares of 7 pixels with ids 1 to `most`."""
    ids = np.arange(1, most + 1).reshape(-1, 20)
    return np.pad(np.kron(ids, np.ones((7, 7))), 20).astype(np.uint8)


def halves():
    return np.where(blobs() > 0, np.where(np.arange(128) < 60, 128, 255), 0)


@pytest.mark.parametrize(
    ("values", "area"),
    [(bordered(1), 1), (instances(200), None), (halves(), 128), (bordered(7), 7)],
)
def test_areas_between_are_ids_or_borders_and_refused(values, area):
    text = rf"m\.png: mask values between 0 and {values.max()} fill areas, such as "
    with pytest.raises(PairError, match=text + (str(area) if area else "")):
        decode_mask(png(values.astype(np.uint8)), "m.png")
    deep = values.astype(np.uint16) * (257 if values.max() == 255 else 300)
    with pytest.raises(PairError, match="merge instance ids first"):
        decode_mask(png(deep), "m.png")


@pytest.mark.parametrize("quality", [5, 15, 30, 60, 95])
def test_masks_out_of_a_jpeg_are_cut_at_half(quality):
    buffer = io.BytesIO()
    Image.fromarray(blobs()).save(buffer, "JPEG", quality=quality)
    mask, grey = decode_mask(buffer.getvalue(), "m")
    assert grey
    np.testing.assert_array_equal(mask, np.asarray(Image.open(buffer)) > 127)
    assert np.mean(mask != blobs() / 255) < 0.02


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.3, 4.0])
@pytest.mark.parametrize("how", [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_resized_and_blurred_masks_are_cut_at_half(scale, how):
    soft = cv2.resize(blobs(), None, fx=scale, fy=scale, interpolation=how)
    for values in (soft, cv2.GaussianBlur(soft, (0, 0), 3 * scale)):
        mask, _ = decode_mask(png(values), "m")
        np.testing.assert_array_equal(mask, values > 127)


def test_real_masks_resized_and_out_of_a_jpeg_are_read(real_data):
    names = ("Data", "Part1_GroundTruth")
    folders = [
        real_data / "original-format-samples" / f"ISIC-2017_Validation_{name}"
        for name in names
    ]
    with open_source("isic2017", folders) as source:
        for pair in source.pairs():
            whole = np.asarray(Image.open(io.BytesIO(source.files.read(pair.masks[0]))))
            small = cv2.resize(whole, (256, 192), interpolation=cv2.INTER_AREA)
            for values in (whole, small):
                buffer = io.BytesIO()
                Image.fromarray(values).save(buffer, "JPEG", quality=40)
                for data in (png(values), buffer.getvalue()):
                    mask, _ = decode_mask(data, "m")
                    assert np.mean(mask != (values > 127)) < 0.005
