"""The parameters of several models of equal shape as one tensor each, and what moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dgam.core.config import TrainSettings
from dgam.model.networks import DGAM
from dgam.training.schedule import learning_rate

STAGES = ("attention", "cvae")
"""What takes turns: attention with classifier, and the CVAE."""

# What an optimiser's step depends on; members that share it are moved by one call.
_PACE = ("lr", "cvae_lr", "betas", "weight_decay", "schedule", "epochs")


class Parameters:
    """Parameters of E models, their optimisers and moving averages.

    ``weights`` maps a parameter's name to its values in all members (E, …). The models see the same memory:
    what moves the one moves the other. ``trains`` may differ in rates, decays, schedules and clipping, not in
    the optimiser.
    """

    def __init__(self, models: Sequence[DGAM], trains: Sequence[TrainSettings]) -> None:
        self.models = tuple(models)
        self.trains = tuple(trains)
        self.steps = [0] * len(models)
        self.weights = _stacked(self.models)
        self.averages = [
            {name: p.detach().clone() for name, p in model.named_parameters()} if train.ema else {}
            for model, train in zip(self.models, self.trains, strict=True)
        ]
        self._names = {
            stage: [n for n in self.weights if (n.split(".")[0] == "cvae") == (stage == "cvae")]
            for stage in STAGES
        }
        self.optimisers = {stage: self._optimiser(stage) for stage in STAGES}

    def move(self, stage: str, gradients: Mapping[str, Tensor | None], epoch: int) -> None:
        """One step of a stage's optimiser by gradients (E, …). Parameters without one stay as they are, as
        does all of the other stage."""
        # A fused optimiser takes a gradient's memory to lie as its parameter's does.
        given = {
            name: value.contiguous()
            for name in self._names[stage]
            if (value := gradients.get(name)) is not None
        }
        self._clip(given)
        for member, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.grad = given[name][member] if name in given else None
        optimiser = self.optimisers[stage]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch, group["initial_lr"], self.trains[group["member"]])
        optimiser.step()
        for model in self.models:
            for parameter in model.parameters():
                parameter.grad = None

    def average(self) -> None:
        """Once a step: let the moving averages follow the weights."""
        for member, (model, train) in enumerate(zip(self.models, self.trains, strict=True)):
            self.steps[member] += 1
            # The decay starts low and rises to its setting, so the random initial weights are soon forgotten.
            decay = min(train.ema, self.steps[member] / (self.steps[member] + 9))
            if self.averages[member]:
                with torch.no_grad():
                    own, current = (
                        list(self.averages[member].values()),
                        [p.detach() for p in model.parameters()],
                    )
                    torch._foreach_lerp_(own, current, 1 - decay)

    def kept(self, member: int) -> dict[str, Tensor]:
        """The weights to localise with, parameters and buffers: the moving average where there is one."""
        return {**self.models[member].state_dict(), **self.averages[member]}

    def state(self, member: int) -> dict[str, Tensor]:
        """Everything of a member that changes during training but for its generator, as named tensors."""
        model = self.models[member]
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors.update({f"average.{name}": value for name, value in self.averages[member].items()})
        for stage, parameters in self._of(member).items():
            slots = self.optimisers[stage].state
            for index, parameter in enumerate(parameters):
                for slot, value in slots.get(parameter, {}).items():
                    if value is not None:
                        tensors[f"optimiser.{stage}.{index}.{slot}"] = torch.as_tensor(value)
        tensors["steps"] = torch.tensor(self.steps[member])
        return tensors

    def restore(self, member: int, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state that :meth:`state` gave. KeyError or RuntimeError where it does not fit."""
        model = self.models[member]
        model.load_state_dict(_below(tensors, "model."))
        for name, value in _below(tensors, "average.").items():
            self.averages[member][name].copy_(value)
        for stage, parameters in self._of(member).items():
            for index, parameter in enumerate(parameters):
                slots = _below(tensors, f"optimiser.{stage}.{index}.")
                self.optimisers[stage].state[parameter] = {
                    slot: value.to(parameter.device, copy=True) for slot, value in slots.items()
                }
        self.steps[member] = int(tensors["steps"])

    def _of(self, member: int) -> dict[str, list[nn.Parameter]]:
        named = dict(self.models[member].named_parameters())
        return {stage: [named[name] for name in names] for stage, names in self._names.items()}

    def _clip(self, gradients: Mapping[str, Tensor]) -> None:
        """Bound the norm of each member's gradient, as ``torch.nn.utils.clip_grad_norm_`` does."""
        if not any(train.clip for train in self.trains):
            return
        norms = [torch.linalg.vector_norm(value.flatten(1), dim=1) for value in gradients.values()]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (E,)
        bounds = norm.new_tensor([train.clip or torch.inf for train in self.trains])
        factor = (bounds / (norm + 1e-6)).clamp_max(1)
        for value in gradients.values():
            value.mul_(factor.view(-1, *[1] * (value.ndim - 1)))

    def _optimiser(self, stage: str) -> torch.optim.Optimizer:
        groups: dict[object, dict[str, Any]] = {}
        for member, train in enumerate(self.trains):
            rate = train.lr if stage == "attention" else train.cvae_lr or train.lr
            own = {
                "params": [],
                "lr": rate,
                "initial_lr": rate,
                "weight_decay": train.weight_decay,
                "member": member,
            }
            own |= {"momentum": train.betas[0]} if train.optimiser == "sgd" else {"betas": train.betas}
            group = groups.setdefault(tuple(getattr(train, name) for name in _PACE), own)
            group["params"] += self._of(member)[stage]
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        optimiser: torch.optim.Optimizer = make[self.trains[0].optimiser](list(groups.values()), fused=True)
        return optimiser


def _stacked(models: Sequence[DGAM]) -> dict[str, Tensor]:
    """A tensor (E, …) for each parameter, of which the models' own become views."""
    if len(models) == 1:
        return {name: p.detach().unsqueeze(0) for name, p in models[0].named_parameters()}
    named = [dict(model.named_parameters()) for model in models]
    stacks = {name: torch.stack([own[name].detach() for own in named]) for name in named[0]}
    for member, own in enumerate(named):
        for name, parameter in own.items():
            parameter.data = stacks[name][member]
    return stacks


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
