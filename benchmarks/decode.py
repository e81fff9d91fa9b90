"""How fast videos become pictures: FrameReader against PyAV used plainly, on the same file in the same run.

    python benchmarks/decode.py VIDEO... [--frames 2000] [--threads 1 2]

Without a video it makes one (simulated: a moving texture, H.264, 640×480, 29.97 fps). Every figure is source
frames decoded, resized to a short side of 256 and handed over as RGB arrays, a second; the best of three.
"plain" is `frame.reformat(…)` and `to_ndarray` on every frame, "per frame" PyAV's own
`to_ndarray(width, height, format)`, "decode only" neither resizes nor copies: the bound.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from dgam.video.container import probe
from dgam.video.framing import FrameSettings, resized
from dgam.video.reader import FrameReader


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(f"{platform.machine()}, {platform.system()}, PyAV {av.__version__}; frames/s, best of three")
    with tempfile.TemporaryDirectory() as folder:
        for video in options.videos or [make(Path(folder) / "simulated.mp4", options.frames)]:
            info = probe(video)
            print(f"\n{video.name}: {info.codec} {info.width}×{info.height}, {float(info.rate or 0):.2f} fps")
            for threads in options.threads:
                figures = {
                    name: best(partial(way, video, threads), options.frames) for name, way in WAYS.items()
                }
                print(
                    f"  {threads} threads: "
                    + ", ".join(f"{name} {rate:.0f}" for name, rate in figures.items())
                )


def make(path: Path, frames: int) -> Path:
    """A moving texture with noise."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (180, 260, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(frames):
            x, y = 3 * number % 1400, 2 * number % 900
            view = np.ascontiguousarray(texture[y : y + 480, x : x + 640])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def decoded(video: Path, threads: int) -> Iterator[av.VideoFrame]:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", threads
        yield from container.decode(stream)


def size_of(video: Path) -> tuple[int, int]:
    info = probe(video)
    return resized(info.width, info.height, FrameSettings())


def ours(video: Path, threads: int) -> Iterator[object]:
    with FrameReader(video, FrameSettings(fps=probe(video).rate or Fraction(25)), threads) as reader:
        yield from reader


def plain(video: Path, threads: int) -> Iterator[object]:
    width, height = size_of(video)
    for frame in decoded(video, threads):
        yield frame.reformat(width, height, "rgb24").to_ndarray()


def per_frame(video: Path, threads: int) -> Iterator[object]:
    width, height = size_of(video)
    for frame in decoded(video, threads):
        yield frame.to_ndarray(width=width, height=height, format="rgb24")


WAYS: dict[str, Callable[[Path, int], Iterator[object]]] = {
    "FrameReader": ours,
    "plain": plain,
    "per frame": per_frame,
    "decode only": decoded,
}


def best(start: Callable[[], Iterator[object]], frames: int) -> float:
    """Frames a second, the best of three."""
    rates = []
    for _ in range(3):
        begin = time.perf_counter()
        count = sum(1 for _ in itertools.islice(start(), frames))
        rates.append(count / (time.perf_counter() - begin))
    return max(rates)


if __name__ == "__main__":
    main()
