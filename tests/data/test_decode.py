import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from mvar_jax.data.decode import decode_image
from tests.data.builders import encode, gradient

PIXELS = gradient(20, 30)
NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_their_pixels(kind):
    np.testing.assert_array_equal(decode_image(encode(PIXELS, kind)), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_near(kind):
    decoded = decode_image(encode(PIXELS, kind))
    assert decoded.shape == PIXELS.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - PIXELS).mean() < 8


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow has no AVIF")
def test_avif_is_read_where_pillow_can():
    decoded = decode_image(encode(PIXELS, "AVIF"))
    assert decoded.shape == PIXELS.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - PIXELS).mean() < 8


def test_an_animation_gives_its_first_picture():
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (250, 0)]
    encoded = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(encoded).min() == 250


def test_grey_becomes_colour():
    decoded = decode_image(encode(PIXELS[..., 0]))
    np.testing.assert_array_equal(decoded, np.repeat(PIXELS[..., :1], 3, axis=-1))


def test_16_bits_are_scaled_not_clipped():
    grey = np.arange(0, 2**16, 256, dtype=np.uint16).reshape(16, 16)
    decoded = decode_image(saved(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(decoded[..., 0], grey >> 8)
    assert decoded.shape == (16, 16, 3)


def test_cmyk_is_converted():
    red = Image.new("RGB", (8, 8), (200, 10, 10))
    decoded = decode_image(saved(red.convert("CMYK"), "JPEG"))
    assert decoded.shape == (8, 8, 3)
    np.testing.assert_allclose(decoded.mean((0, 1)), (200, 10, 10), atol=6)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    image.putpixel((1, 2), (0, 0, 0, 0))
    encoded = saved(image.convert(mode), "PNG")
    if mode == "P":  # its transparent colour is a number
        palette = Image.new("P", (4, 4), 0)
        palette.putpalette([0, 0, 0, 9, 9, 9])
        palette.putpixel((1, 2), 1)
        encoded = saved(palette, "PNG", transparency=1)
    decoded = decode_image(encoded)
    assert decoded[2, 1].tolist() == [255, 255, 255]
    assert decoded.sum() == 3 * 255


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_turned_upright(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    stored = Image.new("RGB", (20, 10), "black")
    stored.paste("white", (0, 0, 10, 10))  # the left half, which belongs on top
    decoded = decode_image(saved(stored, kind, exif=exif))
    assert decoded.shape == (20, 10, 3)
    assert decoded[:8].min() > 200 and decoded[12:].max() < 50


def test_a_broken_remark_on_the_orientation_does_no_harm():
    encoded = saved(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0nonsense")
    assert decode_image(encoded).shape == PIXELS.shape


def claiming(width, height):
    """A small PNG that says that it is large."""

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "encoded,message",
    [
        (b"", "no image in one of the formats JPEG, PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image, .*convert it to JPEG"),
        (b"this is no image", "no image in one of the formats JPEG, PNG"),
        (encode(NOISE)[:900], "truncated"),
        (encode(NOISE, "JPEG")[:900], "truncated"),
        (claiming(10_000, 9_000), "10000 x 9000 pixels, expected at most 89478485"),
        (claiming(60_000, 60_000), "decompression bomb"),
        (claiming(1, 65), "1 x 65 pixels, expected sides of at most 64 to 1"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image in one of the formats"),
        (saved(Image.new("F", (4, 4), 0.5), "TIFF"), "floating-point"),
    ],
    ids="empty heic text cut-png cut-jpeg large bomb strip postscript float".split(),
)
def test_what_is_no_whole_image_is_refused_in_one_line(encoded, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode_image(encoded)
    assert "\n" not in str(caught.value)
