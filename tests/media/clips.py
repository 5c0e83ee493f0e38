"""Small video files made by the tests: every frame shows its number as eight bars of light."""

import struct
from fractions import Fraction

import av
import numpy as np

HEIGHT, WIDTH = 64, 128


def picture(number, height=HEIGHT, width=WIDTH):
    """u8[height, width, 3]: bar i from the left is white if bit i of the number is set, and the
    lower third is orange at the left and blue at the right."""
    bits = (number >> np.arange(8)) & 1
    image = np.repeat(np.repeat(bits * 255, width // 8)[None], height, 0).astype(np.uint8)
    image = np.repeat(image[:, :, None], 3, 2)
    image[2 * height // 3 :, : width // 2] = (255, 128, 0)
    image[2 * height // 3 :, width // 2 :] = (0, 0, 255)
    return image


def number_of(image):
    """The number in a picture, however it was scaled."""
    row = image[image.shape[0] // 4, :, 1].astype(int)
    middles = (2 * np.arange(8) + 1) * image.shape[1] // 16
    return int(((row[middles] > 128) << np.arange(8)).sum())


def write_video(
    path,
    stamps=range(25),
    *,
    time_base=Fraction(1, 25),
    codec="libx264",
    streams=1,
    sound=None,
    sound_rate=44_100,
    options=None,
    size=(HEIGHT, WIDTH),
    container_options=None,
    aspect=None,
):
    """A file with a frame for each of the time stamps, in units of time_base.

    With several streams, those after the first show pictures of twice the size. sound: f32[m,
    channels], or None.
    """
    with av.open(str(path), "w", options=container_options or {}) as out:
        videos = []
        for number in range(streams):
            options = options or ({"bf": "2", "g": "12"} if "264" in codec else {})
            stream = out.add_stream(codec, rate=round(1 / time_base), options=options)
            stream.height, stream.width = (edge * (1 + (number > 0)) for edge in size)
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = time_base
            stream.time_base = time_base
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            videos.append(stream)
        if sound is not None:
            audio = out.add_stream("aac" if str(path).endswith("mp4") else "pcm_s16le", sound_rate)
            audio.layout = {1: "mono", 2: "stereo"}[sound.shape[1]]
        for number, stamp in enumerate(stamps):
            for stream in videos:
                image = picture(number % 256, stream.height, stream.width)
                frame = av.VideoFrame.from_ndarray(image)
                frame.pts, frame.time_base = stamp, time_base
                out.mux(stream.encode(frame))
        for stream in videos:
            out.mux(stream.encode())
        if sound is not None:
            for start in range(0, len(sound), 1024):
                part = sound[start : start + 1024]
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(part.T), format="fltp", layout=audio.layout.name
                )
                frame.sample_rate, frame.pts = sound_rate, start
                frame.time_base = Fraction(1, sound_rate)
                out.mux(audio.encode(frame))
            out.mux(audio.encode())
    return path


def write_wave(path, samples, rate=16_000):
    """A wav of f32[m, channels], as 16-bit integers."""
    codes = np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2")
    channels = samples.shape[1]
    data = codes.tobytes()
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    path.write_bytes(head + form + b"data" + struct.pack("<I", len(data)) + data)
    return path


def turn(path, matrix):
    """Write a display matrix ((a, b), (c, d)) of small integers into the first track of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 8  # version 0: times, id, duration, layer
    (a, b), (c, d) = matrix
    one = 1 << 16
    struct.pack_into(">9i", data, at, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def tone(seconds, rate=44_100, channels=2, hertz=440.0):
    """f32[m, channels]: a tone, of another pitch in each channel."""
    time = np.arange(int(seconds * rate))[:, None] / rate
    pitch = hertz * (1 + np.arange(channels))
    return (0.25 * np.sin(2 * np.pi * time * pitch)).astype(np.float32)
