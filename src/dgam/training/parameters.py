"""The parameters of several models of equal shape as one tensor, and what moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dgam.core.config import TrainSettings
from dgam.model.networks import DGAM
from dgam.training.members import Weights
from dgam.training.optimisers import optimiser_for
from dgam.training.stacked import STAGES, Stacked, stage_of


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
        self.optimisers = {
            stage: optimiser_for(stage, self.trains, self._values, self._gradients) for stage in STAGES
        }

    @property
    def flat_gradients(self) -> Tensor:
        """All gradients (E, P), of which ``gradients`` are views."""
        return self._gradients.all

    def begin(self, epoch: int) -> None:
        """Set what depends on the epoch: learning rates."""
        for optimiser in self.optimisers.values():
            optimiser.begin(epoch)

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
        given = {name: value for name in self._names(stage) if (value := gradients.get(name)) is not None}
        for name, value in given.items():
            self.gradients[name].copy_(value)
        self.optimisers[stage].use(given)

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
                for slot, value in optimiser.slots(name, member).items():
                    tensors[f"optimiser.{stage}.{index}.{slot}"] = value
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
                optimiser.restore(name, member, slots)
        self.steps[member] = int(tensors["steps"])

    def _names(self, stage: str) -> list[str]:
        return [name for name in self.weights if stage_of(name) == stage]

    def _average_of(self, member: int) -> dict[str, Tensor]:
        if self._averages is None or not self.trains[member].ema:
            return {}
        return {name: value[member] for name, value in self._averages.named.items()}

    def _clip(self, gradients: Tensor) -> None:
        """Bound the norm of each member's gradient (E, P'), as ``torch.nn.utils.clip_grad_norm_`` does."""
        if any(train.clip for train in self.trains):
            norm = torch.linalg.vector_norm(gradients, dim=1)  # (E,)
            factor = (self._bounds.to(norm.dtype) / (norm + 1e-6)).clamp_max(1)
            gradients.mul_(torch.where(self._bounds > 0, factor, 1).unsqueeze(1))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
