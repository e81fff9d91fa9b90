"""What moves the parameters of a stage by their gradients: PyTorch's optimisers, or on a GPU one kernel."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from dgam.core.config import TrainSettings
from dgam.training.schedule import learning_rate
from dgam.training.stacked import Stacked, stage_of

# What an optimiser's step depends on; members that share it are moved by one call.
_PACE = ("lr", "cvae_lr", "betas", "weight_decay", "schedule", "epochs")

# A fused optimiser on a GPU gives a tensor few processors, however large it is; cut up, it gets more of them.
_PIECE = 16384

_TINY = 1e-8  # Adam's ε, as PyTorch has it


class Optimiser(Protocol):
    """Of one stage of all members."""

    def begin(self, epoch: int) -> None:
        """Set the learning rates of an epoch."""
        ...

    def use(self, names: Collection[str]) -> None:
        """Only parameters of these names have gradients; others will stay as they are."""
        ...

    def step(self) -> None:
        """Move the parameters."""
        ...

    def slots(self, name: str, member: int) -> dict[str, Tensor]:
        """What is kept about a member's parameter: ``exp_avg`` and the like in the parameter's shape, and
        ``step``, a number. Empty before the first step."""
        ...

    def restore(self, name: str, member: int, slots: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`slots` gave."""
        ...


class ByTorch:
    """An optimiser of PyTorch, whose parameters are vectors cut from ``values`` and ``gradients``."""

    def __init__(
        self, stage: str, trains: Sequence[TrainSettings], values: Stacked, gradients: Stacked
    ) -> None:
        self._trains = trains
        device = values.all.device
        self._recordable = values.all.is_cuda
        names = [name for name in values.named if stage_of(name) == stage]
        most = _PIECE if self._recordable else None
        self._shapes = {name: values.named[name].shape[1:] for name in names}
        members = range(len(trains))
        self._pieces = {(n, m): values.pieces(n, m, most) for n in names for m in members}
        self._gradients = {(n, m): gradients.pieces(n, m, most) for n in names for m in members}
        kind = trains[0].optimiser
        groups: dict[object, dict[str, Any]] = {}
        for member, train in enumerate(trains):
            rate = rate_of(train, stage)
            own: dict[str, Any] = {
                "params": [],
                "lr": torch.tensor(rate, device=device) if self._recordable else rate,
                "initial_lr": rate,
                "weight_decay": train.weight_decay,
                "member": member,
            }
            own |= {"momentum": train.betas[0]} if kind == "sgd" else {"betas": train.betas}
            group = groups.setdefault(tuple(getattr(train, name) for name in _PACE), own)
            for name in names:
                group["params"] += self._pieces[name, member]
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        more = {} if kind == "sgd" else {"capturable": self._recordable, "eps": _TINY}
        self._optimiser: torch.optim.Optimizer = make[kind](list(groups.values()), fused=True, **more)
        # Steps before the recording are meant; torch would warn of them.
        self._optimiser._warned_capturable_if_run_uncaptured = True
        self.use(names)

    def begin(self, epoch: int) -> None:
        """See :class:`Optimiser`."""
        for group in self._optimiser.param_groups:
            rate = learning_rate(epoch, group["initial_lr"], self._trains[group["member"]])
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def use(self, names: Collection[str]) -> None:
        """See :class:`Optimiser`."""
        for (name, member), pieces in self._pieces.items():
            for piece, gradient in zip(pieces, self._gradients[name, member], strict=True):
                piece.grad = gradient if name in names else None

    def step(self) -> None:
        """See :class:`Optimiser`."""
        self._optimiser.step()

    def slots(self, name: str, member: int) -> dict[str, Tensor]:
        """See :class:`Optimiser`."""
        pieces = [self._optimiser.state.get(piece, {}) for piece in self._pieces[name, member]]
        return {
            slot: _joined([piece[slot] for piece in pieces], self._shapes[name])
            for slot, value in pieces[0].items()
            if value is not None
        }

    def restore(self, name: str, member: int, slots: Mapping[str, Tensor]) -> None:
        """See :class:`Optimiser`. RuntimeError where sizes differ."""
        own = self._pieces[name, member]
        cut = {slot: _cut_like(value, own) for slot, value in slots.items()}
        for number, piece in enumerate(own):
            self._optimiser.state[piece] = {slot: parts[number] for slot, parts in cut.items()}


class ByKernel:
    """Adam or AdamW on a GPU: one kernel for all members, where PyTorch's goes through lists of tensors."""

    def __init__(
        self, stage: str, trains: Sequence[TrainSettings], values: Stacked, gradients: Stacked
    ) -> None:
        device = values.all.device
        self._trains, self._stage = trains, stage
        self._values, self._gradients = values.stage(stage), gradients.stage(stage)
        self._means, self._squares = values.like(), values.like()
        self._names = {name for name in values.named if stage_of(name) == stage}
        self._steps = torch.zeros(len(trains), device=device)
        numbers = [[*t.betas, rate_of(t, stage), t.weight_decay, _TINY] for t in trains]
        self._numbers = torch.tensor(numbers, dtype=torch.float64, device=device)  # (E, 5)

    def begin(self, epoch: int) -> None:
        """See :class:`Optimiser`."""
        rates = [learning_rate(epoch, rate_of(train, self._stage), train) for train in self._trains]
        self._numbers[:, 2] = torch.tensor(rates, dtype=torch.float64)

    def use(self, names: Collection[str]) -> None:
        """See :class:`Optimiser`."""
        assert self._names <= set(names), "the kernel moves all parameters of a stage or none"

    def step(self) -> None:
        """See :class:`Optimiser`."""
        from dgam.kernels.adam import adam

        self._steps += 1
        adam(
            self._values,
            self._gradients,
            self._means.stage(self._stage),
            self._squares.stage(self._stage),
            self._numbers,
            self._steps,
            decoupled=self._trains[0].optimiser == "adamw",
        )

    def slots(self, name: str, member: int) -> dict[str, Tensor]:
        """See :class:`Optimiser`."""
        if not self._steps[member]:
            return {}
        return {
            "step": self._steps[member],
            "exp_avg": self._means.named[name][member],
            "exp_avg_sq": self._squares.named[name][member],
        }

    def restore(self, name: str, member: int, slots: Mapping[str, Tensor]) -> None:
        """See :class:`Optimiser`. KeyError or RuntimeError where slots are missing or their sizes differ."""
        for slot, kept in (("exp_avg", self._means), ("exp_avg_sq", self._squares)):
            own = kept.named[name][member]
            own.copy_(slots[slot].view(own.shape) if slots else torch.zeros_like(own))
        self._steps[member] = slots["step"] if slots else 0


def optimiser_for(
    stage: str, trains: Sequence[TrainSettings], values: Stacked, gradients: Stacked
) -> Optimiser:
    """The kernel's where it has what is asked for. Members have the same kind of optimiser and step."""
    train = trains[0]
    kernel = (
        values.all.is_cuda
        and values.all.dtype == torch.float32
        and train.step != "plain"
        and train.optimiser in ("adam", "adamw")
        and importlib.util.find_spec("triton") is not None
    )
    return (ByKernel if kernel else ByTorch)(stage, trains, values, gradients)


def rate_of(train: TrainSettings, stage: str) -> float:
    """A stage's learning rate before any schedule."""
    return train.lr if stage == "attention" else train.cvae_lr or train.lr


def _joined(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """A slot of an optimiser from those of a parameter's pieces: a number that all share, or one each."""
    if parts[0].ndim == 0:
        return parts[0]
    return torch.cat(list(parts)).view(*shape)  # (numbers,) -> the parameter's shape


def _cut_like(value: Tensor, pieces: Sequence[Tensor]) -> list[Tensor]:
    """The reverse of :func:`_joined`, in fresh memory on the pieces' device. RuntimeError where sizes
    differ."""
    device = pieces[0].device
    if value.ndim == 0:
        return [value.to(device, copy=True) for _ in pieces]
    parts = torch.split(value.reshape(-1), [len(piece) for piece in pieces])  # numbers of each piece
    return [part.to(device, copy=True) for part in parts]
