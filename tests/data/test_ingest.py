import io
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.made import (
    BLUE,
    RED,
    WHITE,
    bomb,
    corner,
    encode,
    grey16,
    plain,
    png,
    swapped_profile,
    turned,
)
from palate.core.problems import StateError
from palate.data import decoder, ingest
from palate.data.ingest import REFUSALS, Gate, Picture, Refusal


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with Gate(seconds=20) as gate:
        yield gate


def passed(gate: Gate, data: bytes) -> Picture:
    result = gate.normalise(data)
    assert isinstance(result, Picture), result
    return result


def refused(gate: Gate, data: bytes) -> str:
    result = gate.normalise(data)
    assert isinstance(result, Refusal), result
    return result.reason


def near(pixel: np.ndarray, colour: tuple[int, int, int], by: int = 3) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= by)


def test_pixels_of_a_lossless_picture_come_through_unchanged(gate: Gate) -> None:
    data = plain(5, (24, 16))
    with Image.open(io.BytesIO(data)) as expected:
        np.testing.assert_array_equal(passed(gate, data).pixels, np.array(expected))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_a_browser_turns_it(gate: Gate, orientation: int, kind: str) -> None:
    """Red sits in the top-left quarter of the stored picture; EXIF says where that belongs."""
    picture = passed(gate, turned(orientation, kind))
    wide = orientation < 5
    assert (picture.width, picture.height) == ((40, 20) if wide else (20, 40))
    bottom, right = {
        1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)
    }[orientation]  # fmt: skip
    for down in (0, 1):
        for across in (0, 1):
            y, x = (picture.height - 3) * down + 1, (picture.width - 3) * across + 1
            colour = RED if (down, across) == (bottom, right) else WHITE
            assert near(picture.pixels[y, x], colour), (down, across)


def test_a_transparent_pixel_shows_white_not_the_colour_hidden_under_it(gate: Gate) -> None:
    hidden = Image.new("RGBA", (16, 16), (0, 255, 0, 0))
    hidden.paste((0, 0, 255, 128), (0, 0, 8, 16))
    for kind in ("PNG", "WEBP"):
        lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        picture = passed(gate, encode(hidden, kind, **lossless))
        assert near(picture.pixels[8, 12], WHITE, 0)
        # Half of blue over white, by hand: 255 * (1 - 128/255) = 127.
        assert near(picture.pixels[8, 4], (127, 127, 255), 1)
        assert "transparency-over-white" in picture.notes


def test_a_palette_with_a_transparent_entry_shows_white(gate: Gate) -> None:
    picture = Image.new("P", (16, 16), 1)
    picture.putpalette([0, 255, 0, 255, 0, 0])
    picture.paste(0, (0, 0, 8, 16))
    pixels = passed(gate, encode(picture, transparency=0)).pixels
    assert near(pixels[8, 4], WHITE, 0)
    assert near(pixels[8, 12], RED, 0)


def test_sixteen_bit_grey_is_scaled_not_clipped(gate: Gate) -> None:
    """0x8000 is half of the range: 128. Clipping would give 255."""
    values = np.full((16, 16), 0x8000)
    values[:8] = 0x0100
    picture = passed(gate, grey16(values))
    assert near(picture.pixels[12, 3], (128, 128, 128), 0)
    assert near(picture.pixels[2, 3], (1, 1, 1), 0)
    assert picture.notes == ("scaled-from-16-bit",)


def test_sixteen_bit_colour_keeps_the_high_byte(gate: Gate) -> None:
    raw = (b"\0" + b"\x80\x00\x40\x00\xff\xff" * 16) * 16
    assert near(passed(gate, png(16, 16, raw, depth=16)).pixels[3, 3], (128, 64, 255), 0)


def test_cmyk_becomes_rgb(gate: Gate) -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    picture = passed(gate, encode(ink, "JPEG", quality=100))
    assert near(picture.pixels[8, 8], RED, 6)
    assert "converted-from-cmyk" in picture.notes


def test_an_embedded_colour_profile_is_applied(gate: Gate) -> None:
    """The profile says that what is stored as red is meant as blue."""
    data = encode(Image.new("RGB", (16, 16), RED), icc_profile=swapped_profile())
    picture = passed(gate, data)
    assert picture.notes == ("colour-profile-applied",)
    assert near(picture.pixels[8, 8], BLUE, 6)


def test_a_broken_colour_profile_leaves_the_pixels_alone(gate: Gate) -> None:
    picture = passed(gate, encode(Image.new("RGB", (16, 16), RED), icc_profile=b"nonsense" * 40))
    assert near(picture.pixels[8, 8], RED, 0)
    assert picture.notes == ("colour-profile-ignored",)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_counts_as_its_first_frame(gate: Gate, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    picture = passed(gate, data)
    assert near(picture.pixels[8, 8], RED, 0)
    assert picture.notes == ("first-frame-only",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_png_mode_becomes_rgb(gate: Gate, mode: str) -> None:
    assert passed(gate, encode(corner().convert(mode))).pixels.shape == (20, 40, 3)


NASTY = {
    "empty": (b"", "broken-picture"),
    "text": (b"not a picture at all", "broken-picture"),
    "html": (b"<html><script>1</script>", "unsupported-format"),
    "svg": (b"<svg xmlns='x'/>", "unsupported-format"),
    "gif": (encode(Image.new("RGB", (16, 16)), "GIF"), "unsupported-format"),
    "animated gif": (
        encode(corner(), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 20))]),
        "unsupported-format",
    ),
    "bmp": (encode(Image.new("RGB", (16, 16)), "BMP"), "unsupported-format"),
    "tiff": (encode(Image.new("RGB", (16, 16)), "TIFF"), "unsupported-format"),
    "jpeg start only": (b"\xff\xd8\xff", "broken-picture"),
    "png start only": (b"\x89PNG\r\n\x1a\n", "broken-picture"),
    "webp start only": (b"RIFF\x10\0\0\0WEBPVP8 ", "broken-picture"),
    "truncated jpeg": (plain(1, (64, 64), "JPEG")[:-300], "broken-picture"),
    "truncated png": (plain(1, (64, 64))[:-300], "broken-picture"),
    "truncated webp": (plain(1, (64, 64), "WEBP")[:-300], "broken-picture"),
    "half a jpeg": (plain(1, (64, 64), "JPEG")[:1000], "broken-picture"),
    "bomb of 400 MB": (bomb(10_000, 10_000), "picture-too-large"),
    "bomb of 65000 a side": (bomb(65_000, 200), "picture-too-large"),
    "5000 a side": (bomb(5000, 5000), "picture-too-large"),
    "one row too many": (bomb(16, 4097), "picture-too-large"),
    "too few pixels": (plain(1, (4, 4)), "picture-too-small"),
    "no pixels": (png(0, 16, b""), "broken-picture"),
    "header lies about size": (png(64, 64, bytes(100)), "broken-picture"),
    "wrong checksum": (plain(1)[:30] + b"\0\0\0\0" + plain(1)[34:], "broken-picture"),
    "21 MB": (plain(1) + bytes(21 * 1024 * 1024), "picture-too-large"),
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_nasty_pictures_are_refused_for_the_right_reason(gate: Gate, name: str) -> None:
    data, reason = NASTY[name]
    before = gate.restarts
    assert refused(gate, data) == reason
    # Refusing is the ordinary case: it must not cost a new child.
    assert gate.restarts == before


def test_the_bomb_is_small() -> None:
    assert len(bomb(10_000, 10_000)) < 20_000


def test_the_largest_picture_passes_within_the_memory_limit(gate: Gate) -> None:
    picture = passed(gate, encode(Image.new("RGBA", (4096, 4096), (9, 9, 9, 40)), compress_level=1))
    assert (picture.width, picture.height) == (4096, 4096)


def test_a_picture_that_needs_more_memory_than_allowed_is_refused_not_swapped() -> None:
    """Twelve megapixels under a limit of a few: the child answers, or dies and is replaced."""
    with Gate(seconds=20) as gate:
        passed(gate, plain(1))
        child = gate.process
        assert child is not None
        used = int(Path(f"/proc/{child}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(child, resource.RLIMIT_AS, (used + 2**20, used + 2**20))
        big = encode(Image.new("RGBA", (3000, 3000), (9, 9, 9, 40)), compress_level=1)
        assert refused(gate, big) in ("picture-too-large", "decoder-died", "broken-picture")
        gate.close()
        passed(gate, plain(1))


def test_a_decoder_that_dies_costs_one_picture() -> None:
    with Gate() as gate:
        first = passed(gate, plain(1))
        assert gate.process is not None
        os.kill(gate.process, signal.SIGKILL)
        assert refused(gate, plain(2)) == "decoder-died"
        assert gate.restarts == 1
        assert passed(gate, plain(1)) == first


def test_a_decoder_that_hangs_costs_its_time_limit() -> None:
    with Gate(seconds=0.2) as gate:
        gate.normalise(plain(1))
        assert gate.process is not None
        os.kill(gate.process, signal.SIGSTOP)
        assert refused(gate, plain(2, (64, 64))) == "decoder-timeout"
        assert gate.restarts == 1


def test_a_lying_child_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A taken-over child that claims a huge picture is ended."""
    with Gate() as gate:
        passed(gate, plain(1))
        lie = decoder.REPLY.pack(0, 100_000, 100_000, 0)
        monkeypatch.setattr(ingest, "_read", lambda *_: lie)
        assert refused(gate, plain(1)) == "decoder-died"


def test_the_child_sees_no_keys_and_cannot_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    with Gate() as gate:
        passed(gate, plain(1))
        assert b"SOME_TOKEN" not in Path(f"/proc/{gate.process}/environ").read_bytes()
        assert gate.process is not None
        for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
            assert resource.prlimit(gate.process, what) == (0, 0)
        limit = resource.prlimit(gate.process, resource.RLIMIT_AS)[0]
        assert 0 < limit < 3 * 1024**3


def test_a_decoder_that_cannot_start_is_a_problem_with_a_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest.sys, "executable", "/bin/false")
    with pytest.raises(StateError, match="Need a child process that can import Pillow"):
        Gate().normalise(plain(1))


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Pictures of six kinds with bytes flipped, cut, repeated or inserted."""
    seeds = [
        plain(1, (32, 32), "JPEG"),
        plain(2, (32, 32)),
        plain(3, (32, 32), "WEBP"),
        turned(6),
        grey16(np.arange(256).reshape(16, 16) * 200),
        encode(Image.new("RGBA", (32, 32), (1, 2, 3, 99)), icc_profile=swapped_profile()),
        encode(corner().convert("CMYK"), "JPEG"),
        encode(corner(), "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 20))]),
    ]
    random = np.random.default_rng(seed)
    for index in range(count):
        data = bytearray(seeds[index % len(seeds)])
        at = int(random.integers(0, len(data)))
        kind = random.integers(0, 4)
        if kind == 0:
            for place in random.integers(0, len(data), int(random.integers(1, 9))):
                data[place] = int(random.integers(0, 256))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = data[at : at + 40] * int(random.integers(1, 9))
        else:
            data[at : at + 4] = random.bytes(4)
        yield bytes(data)


def survive(count: int, seed: int) -> None:
    with Gate(seconds=20) as gate:
        for data in mutants(count, seed):
            result = gate.normalise(data)
            if isinstance(result, Refusal):
                assert result.reason in REFUSALS
            else:
                assert len(result.rgb) == result.width * result.height * 3
        assert passed(gate, plain(7))


def test_mutated_pictures_pass_or_get_one_typed_refusal() -> None:
    survive(300, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_mutated_pictures_pass_or_get_one_typed_refusal() -> None:
    survive(20_000, seed=2)


def test_the_decoder_imports_nothing_of_ours() -> None:
    """It starts in a fraction of a second because it stands alone."""
    text = Path(decoder.__file__).read_text()
    assert "import palate" not in text
    assert "from palate" not in text
    assert "torch" not in text
