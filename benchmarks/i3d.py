"""How fast I3D's features come, against the plain float32 forward pass of the same network in the same run.

    python benchmarks/i3d.py [--threads 2] [--rounds 5] [--compiled] [--openvino] [--json FILE]
    python benchmarks/i3d.py --device cuda --batch 32

Clips are 16 frames of 224 × 224 with random pixels, weights are random. The ways take turns, and the best
round of each counts, so that other work on the machine hits all alike. Beside each rate stand its ratio to
the plain pass and the relative error of its features to the plain ones, ‖a − b‖ / ‖b‖.

On a GPU "plain float32" multiplies in float32. As PyTorch comes, it lets convolutions round their factors to
TF32, 10 bits; that is the line "plain TF32".
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from dgam.encoders.fast_i3d import FastI3D, Precision
from dgam.encoders.i3d import I3D, randomise

GFLOP_A_CLIP = 55.6  # one 16-frame clip at 224 × 224, by torch's counter, a multiply-add counted as two

Way = Callable[[Tensor], Tensor]


@dataclass
class Row:
    """What one way of running the network reached."""

    way: str
    clips_per_second: float
    ratio: float
    relative_error: float
    gflop_per_second: float


def plain(network: I3D, device: torch.device, tf32: bool = False) -> Way:
    """The network as it is written, eager, float32."""
    network = copy.deepcopy(network)
    network.to(device)

    def run(clips: Tensor) -> Tensor:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            return network.features(clips).cpu()

    return run


def compiled(network: I3D) -> Way:
    """Folded, channels last, compiled and frozen by torch, float32: what a compiler makes of it."""
    network = copy.deepcopy(network).requires_grad_(False)
    for _, unit in network.units():
        unit.fold()
    # torch's annotations of Module.to lack memory_format by itself.
    # For mypy: torch's types lack the 3d format.
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    forward = torch.compile(network.features, dynamic=False, options={"freezing": True})

    def run(clips: Tensor) -> Tensor:
        with torch.inference_mode():
            return forward(clips.contiguous(memory_format=torch.channels_last_3d))

    return run


def openvino(network: I3D, clips: Tensor, precision: str, threads: int) -> Way:
    """The folded network converted to OpenVINO."""
    runtime = importlib.import_module("openvino")
    folded = copy.deepcopy(network).requires_grad_(False)
    for _, unit in folded.units():
        unit.fold()
    # The plain network is made to stop at the features, as the fast one does.
    folded.forward = folded.features  # type: ignore[method-assign]  # as the model without its last layer
    converted = runtime.convert_model(torch.export.export(folded, (clips,)))
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    model = runtime.Core().compile_model(converted, "CPU", settings)
    return lambda batch: torch.from_numpy(model([batch.numpy()])[0].copy())


def seconds(way: Way, clips: Tensor) -> float:
    if clips.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    way(clips)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="clips in a call, of every way")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile with freezing (minutes)")
    parser.add_argument("--openvino", action="store_true", help="also OpenVINO")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    network = randomise(I3D(3), seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    clips = (torch.rand(args.batch, 3, 16, 224, 224, generator=generator) * 2 - 1).to(device)

    ways: dict[str, Way] = {"plain float32": plain(network, device)}
    if device.type == "cuda":
        ways["plain TF32"] = plain(network, device, tf32=True)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        ways[f"fast {precision}"] = FastI3D(network, device, precision, batch=args.batch).features
    if args.compiled:
        ways["compiled float32"] = compiled(network)
    if args.openvino:
        for hint in ("f32", "bf16"):
            ways[f"OpenVINO {hint}"] = openvino(network, clips, hint, args.threads)

    wanted = ways["plain float32"](clips)
    errors = {name: float((way(clips).float() - wanted).norm() / wanted.norm()) for name, way in ways.items()}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(args.rounds):
        for name, way in ways.items():
            best[name] = min(best[name], seconds(way, clips))

    rows = []
    print(
        f"{date.today()}, {platform.processor() or platform.machine()}, {device}, {args.threads} threads, ",
        end="",
    )
    print(f"torch {torch.__version__}, batches of {args.batch}")
    print(f"{'':18} {'clips/s':>8} {'ratio':>6} {'error':>9} {'GFLOP/s':>8}")
    for name, took in best.items():
        rate = args.batch / took
        row = Row(name, rate, best["plain float32"] / took, errors[name], rate * GFLOP_A_CLIP)
        rows.append(row)
        print(
            f"{name:18} {row.clips_per_second:8.2f} {row.ratio:6.2f} {row.relative_error:9.1e} "
            f"{row.gflop_per_second:8.0f}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
