"""The parameters of several models of equal shape as one tensor, and what moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgam.core.config import TrainSettings
from dgam.model.networks import DGAM
from dgam.training.members import Weights
from dgam.training.schedule import learning_rate
from dgam.training.stacked import STAGES, Stacked, stage_of

# What an optimiser's step depends on; members that share it are moved by one call.
_PACE = ("lr", "cvae_lr", "betas", "weight_decay", "schedule", "epochs")

# A fused optimiser on a GPU gives a tensor few processors, however large it is; cut up, it gets more of them.
_PIECE = 16384


class Parameters:
    """Parameters of E models, their gradients, optimisers and moving averages.

    ``weights`` and ``gradients`` map a parameter's name to its values in all members (E, …). The models see
    the memory of the weights: what moves the one moves the other. ``trains`` may differ in rates, decays,
    schedules and clipping, not in the optimiser.

    Nothing in :meth:`move` and :meth:`average` depends on numbers that the host knows and a GPU does not, so
    that both can be recorded; what changes with the epoch is set by :meth:`begin`.
    """

    def __init__(self, models: Sequence[DGAM], trains: Sequence[TrainSettings]) -> None:
        self.models = tuple(models)
        self.trains = tuple(trains)
        shapes = {name: p.shape for name, p in models[0].named_parameters()}
        like = models[0].shift
        self._values = Stacked(shapes, len(models), like.dtype, like.device)
        self._rounded: dict[torch.dtype, Stacked] = {}
        for member, model in enumerate(models):
            for name, parameter in model.named_parameters():
                own = self._values.named[name][member]
                parameter.data = own.copy_(parameter.data)
        self.weights: Weights = self._values.named
        self._gradients = self._values.like()
        self.gradients: Weights = self._gradients.named
        self._ema, self._bounds = (
            torch.tensor([getattr(t, name) for t in trains], dtype=torch.float64, device=like.device)
            for name in ("ema", "clip")
        )
        self.steps = torch.zeros(len(models), dtype=torch.float64, device=like.device)
        self._averages: Stacked | None = None
        if any(train.ema for train in trains):
            self._averages = self._values.like()
            self._averages.all.copy_(self._values.all)
        self._pieces = {
            (name, member): self._cut(name, member) for name in shapes for member in range(len(models))
        }
        self.optimisers = {stage: self._optimiser(stage) for stage in STAGES}

    def begin(self, epoch: int) -> None:
        """Set what depends on the epoch: learning rates."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                rate = learning_rate(epoch, group["initial_lr"], self.trains[group["member"]])
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def rounded(self, dtype: torch.dtype, stages: Sequence[str] = STAGES) -> Weights:
        """The weights in ``dtype``, (E, …): as they are now in these stages, as they were at the last call in
        others."""
        if dtype == self._values.all.dtype:
            return self.weights
        if dtype not in self._rounded:
            self._rounded[dtype] = self._values.like(dtype)
        for stage in stages:
            self._rounded[dtype].stage(stage).copy_(self._values.stage(stage))
        return self._rounded[dtype].named

    def take(self, stage: str, gradients: Mapping[str, Tensor | None]) -> None:
        """Set a stage's gradients to these (E, …). Parameters without one will stay as they are."""
        self._gradients.stage(stage).zero_()
        for name in self._names(stage):
            value = gradients.get(name)
            if value is not None:
                self.gradients[name].copy_(value)
            for member in range(len(self.models)):
                own = self._gradients.pieces(name, member, self._most)
                for piece, gradient in zip(self._pieces[name, member], own, strict=True):
                    piece.grad = None if value is None else gradient

    def multiply(self, stage: str, factor: Tensor) -> None:
        """Multiply a stage's gradients by each member's ``factor`` (E, 1)."""
        self._gradients.stage(stage).mul_(factor)

    def move(self, stage: str) -> None:
        """One step of a stage's optimiser by its gradients. All of the other stage stays as it is."""
        self._clip(self._gradients.stage(stage))
        self.optimisers[stage].step()

    def average(self) -> None:
        """Once a step: let the moving averages follow the weights."""
        self.steps += 1
        if self._averages is not None:
            # The decay starts low and rises to its setting, so the random initial weights are soon forgotten.
            decay = torch.minimum(self._ema, self.steps / (self.steps + 9))  # (E,)
            values = self._values.all
            self._averages.all.lerp_(values, (1 - decay).to(values.dtype).unsqueeze(1))

    def kept(self, member: int) -> dict[str, Tensor]:
        """The weights to localise with, parameters and buffers: the moving average where there is one."""
        return {**self.models[member].state_dict(), **self._average_of(member)}

    def state(self, member: int) -> dict[str, Tensor]:
        """Everything of a member that changes during training but for its generator, as named tensors."""
        tensors = {f"model.{name}": value for name, value in self.models[member].state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self._average_of(member).items()}
        for stage, optimiser in self.optimisers.items():
            for index, name in enumerate(self._names(stage)):
                pieces = [optimiser.state.get(piece, {}) for piece in self._pieces[name, member]]
                for slot, value in pieces[0].items():
                    if value is not None:
                        whole = _joined([piece[slot] for piece in pieces], self.weights[name].shape[1:])
                        tensors[f"optimiser.{stage}.{index}.{slot}"] = whole
        tensors["steps"] = self.steps[member].long()
        return tensors

    def restore(self, member: int, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state that :meth:`state` gave. KeyError or RuntimeError where it does not fit."""
        self.models[member].load_state_dict(_below(tensors, "model."))
        for name, value in self._average_of(member).items():
            value.copy_(tensors[f"average.{name}"])
        for stage, optimiser in self.optimisers.items():
            for index, name in enumerate(self._names(stage)):
                slots = _below(tensors, f"optimiser.{stage}.{index}.")
                own = self._pieces[name, member]
                cut = {slot: _cut_like(value, own) for slot, value in slots.items()}
                for number, piece in enumerate(own):
                    optimiser.state[piece] = {slot: parts[number] for slot, parts in cut.items()}
        self.steps[member] = int(tensors["steps"])

    def _names(self, stage: str) -> list[str]:
        return [name for name in self.weights if stage_of(name) == stage]

    def _average_of(self, member: int) -> dict[str, Tensor]:
        if self._averages is None or not self.trains[member].ema:
            return {}
        return {name: value[member] for name, value in self._averages.named.items()}

    @property
    def _most(self) -> int | None:
        return _PIECE if self._values.all.is_cuda else None

    def _cut(self, name: str, member: int) -> list[Tensor]:
        """A member's parameter as the optimiser has it, with its gradients."""
        pieces = self._values.pieces(name, member, self._most)
        gradients = self._gradients.pieces(name, member, self._most)
        for piece, gradient in zip(pieces, gradients, strict=True):
            piece.grad = gradient
        return pieces

    def _clip(self, gradients: Tensor) -> None:
        """Bound the norm of each member's gradient (E, P'), as ``torch.nn.utils.clip_grad_norm_`` does."""
        if any(train.clip for train in self.trains):
            norm = torch.linalg.vector_norm(gradients, dim=1)  # (E,)
            factor = (self._bounds.to(norm.dtype) / (norm + 1e-6)).clamp_max(1)
            gradients.mul_(torch.where(self._bounds > 0, factor, 1).unsqueeze(1))

    def _optimiser(self, stage: str) -> torch.optim.Optimizer:
        kind, recordable = self.trains[0].optimiser, self._values.all.is_cuda
        groups: dict[object, dict[str, Any]] = {}
        for member, train in enumerate(self.trains):
            rate = train.lr if stage == "attention" else train.cvae_lr or train.lr
            own: dict[str, Any] = {
                "params": [],
                "lr": torch.tensor(rate, device=self._values.all.device) if recordable else rate,
                "initial_lr": rate,
                "weight_decay": train.weight_decay,
                "member": member,
            }
            own |= {"momentum": train.betas[0]} if kind == "sgd" else {"betas": train.betas}
            group = groups.setdefault(tuple(getattr(train, name) for name in _PACE), own)
            for name in self._names(stage):
                group["params"] += self._pieces[name, member]
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        more = {} if kind == "sgd" else {"capturable": recordable}
        optimiser: torch.optim.Optimizer = make[kind](list(groups.values()), fused=True, **more)
        # Steps before the recording are meant; torch would warn of them.
        optimiser._warned_capturable_if_run_uncaptured = True
        return optimiser


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


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
