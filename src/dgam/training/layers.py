"""Linear layers of several models at once."""

from __future__ import annotations

import torch
from torch import Tensor

from dgam.training.means import Means
from dgam.training.members import fills_gpu, product


def layer(
    x: Tensor, weight: Tensor, bias: Tensor | None, means: Means, name: str, *, relu: bool = False
) -> Tensor:
    """A linear layer, with ReLU or not: x (E, n, k), weight (E, m, k), bias (E, m) to (E, n, m)."""
    members, rows, _ = x.shape
    out = means.buffers.get(name, (members, rows, weight.shape[1]), x.dtype)
    if bias is None:
        product(x, weight.mT, out)
    elif members == 1 or (x.is_cuda and fills_gpu(x[0], weight.shape[1])):
        for own, w, b, into in zip(x, weight, bias, out, strict=True):
            torch.addmm(b, own, w.mT, out=into)
    elif x.is_cuda:  # a batched product with a bias would first write the bias to every row
        return means.passes.activate(product(x, weight.mT, out), bias, relu)
    else:
        torch.baddbmm(bias.unsqueeze(1), x, weight.mT, out=out)
    return out.relu_() if relu else out
