"""What I3D's parameters are called in the published checkpoints."""

from __future__ import annotations

from dgam.encoders.i3d import I3D

# Our name's last part to the published ones'.
_TENSORFLOW = {
    "conv.weight": "conv_3d/w",
    "norm.beta": "batch_norm/beta",
    "norm.mean": "batch_norm/moving_mean",
    "norm.variance": "batch_norm/moving_variance",
}
_PYTORCH = {
    "conv.weight": "conv3d.weight",
    "norm.beta": "bn.bias",
    "norm.mean": "bn.running_mean",
    "norm.variance": "bn.running_var",
}
_BRANCHES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}


def tensorflow_names(network: I3D) -> dict[str, str]:
    """Our parameters' names to those in kinetics-i3d's checkpoints, without the scope."""
    names: dict[str, str] = {}
    for unit, _ in network.units():
        block, _, branch = unit.partition(".")
        path = f"{block}/{_BRANCHES[branch]}" if branch else block
        if unit == "Mixed_5b.b2b":
            path = (
                "Mixed_5b/Branch_2/Conv3d_0a_3x3"  # so called in the published graph, against its own pattern
            )
        names |= {f"{unit}.{ours}": f"{path}/{theirs}" for ours, theirs in _TENSORFLOW.items()}
    return names | {
        "Logits.weight": "Logits/Conv3d_0c_1x1/conv_3d/w",
        "Logits.bias": "Logits/Conv3d_0c_1x1/conv_3d/b",
    }


def pytorch_names(network: I3D) -> dict[str, str]:
    """Our parameters' names to those in pytorch-i3d's files."""
    names = {
        f"{unit}.{ours}": f"{unit}.{theirs}"
        for unit, _ in network.units()
        for ours, theirs in _PYTORCH.items()
    }
    return names | {"Logits.weight": "logits.conv3d.weight", "Logits.bias": "logits.conv3d.bias"}
