"""Several models of equal shape trained side by side, each as it would have been trained alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dgam.core.config import Config
from dgam.model.networks import DGAM
from dgam.training.buffers import Buffers
from dgam.training.engine import Batch, Engine
from dgam.training.members import FORM
from dgam.training.parameters import Parameters
from dgam.training.side_by_side import SideBySide


class EnsembleEngine:
    """E models with their optimisers, moving averages and noise generators, one member each.

    Members may differ in their numbers (weights of losses, r, learning rates, warm-up, seeds) and in the form
    of their losses, but must agree in the networks' shapes. :meth:`step` takes a batch with a leading axis: x
    (E, B, T, d), labels (E, B, C).

    ``together`` says whether members go through the same operations, with the leading axis in every tensor
    (those that agree in :data:`members.FORM`, in whether gamma1 is 0, in precision and optimiser), or by
    turns. By default they do on a GPU, where one member's operations are too small to fill it. On a CPU one
    member fills all cores and its caches, and taking turns is no slower and needs the memory of one. The
    weights that a member comes to are the same up to rounding.
    """

    def __init__(
        self,
        models: Sequence[DGAM],
        configs: Sequence[Config],
        generators: Sequence[torch.Generator],
        *,
        together: bool | None = None,
    ) -> None:
        self.models = tuple(models)
        self._configs = tuple(configs)
        self._generators = tuple(generators)
        device = models[0].shift.device
        self._together = device.type == "cuda" if together is None else together
        self._engines: dict[int, Engine] = {}  # of members whose step is plain
        self._groups: list[tuple[list[int], SideBySide]] = []
        buffers = Buffers(device)
        for numbers in self._alike():
            own = [self._configs[n] for n in numbers]
            if own[0].train.step == "plain":
                self._engines[numbers[0]] = Engine(models[numbers[0]], own[0], generators[numbers[0]])
                continue
            parameters = Parameters([models[n] for n in numbers], [config.train for config in own])
            group = SideBySide(parameters, own, [generators[n] for n in numbers], buffers)
            self._groups.append((numbers, group))

    def __len__(self) -> int:
        return len(self.models)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Both stages of every member on its own batch; losses (E,), NaN where a member has no such loss."""
        parts: list[tuple[list[int], dict[str, Tensor]]] = []
        for numbers, group in self._groups:
            x, labels = _rows(batch.x, numbers), _rows(batch.labels, numbers)
            parts.append((numbers, group.step(x, labels, epoch, scaled=batch.scaled)))
        for number, engine in self._engines.items():
            own = Batch(batch.x[number], batch.labels[number], scaled=batch.scaled)
            parts.append(([number], {k: v.view(1) for k, v in engine.step(own, epoch).items()}))
        if len(parts) == 1:
            return parts[0][1]
        kept = {name: value for _, terms in parts for name, value in terms.items()}
        out = {name: value.new_full((len(self),), torch.nan) for name, value in kept.items()}
        for numbers, terms in parts:
            for name, value in terms.items():
                out[name][numbers] = value
        return out

    def weights(self, member: int) -> dict[str, Tensor]:
        """The weights to localise with of one member, as :meth:`Engine.weights`."""
        if member in self._engines:
            return self._engines[member].weights()
        parameters, place = self._find(member)
        return parameters.kept(place)

    def member_state(self, member: int) -> dict[str, Tensor]:
        """The state of one member, as :meth:`Engine.state` has it: an Engine can go on from it."""
        if member in self._engines:
            return self._engines[member].state()
        parameters, place = self._find(member)
        return {**parameters.state(place), "generator": self._generators[member].get_state()}

    def restore_member(self, member: int, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state that :meth:`member_state` or :meth:`Engine.state` gave."""
        if member in self._engines:
            self._engines[member].restore(tensors)
            return
        parameters, place = self._find(member)
        for _, group in self._groups:
            group.forget()
        parameters.restore(place, tensors)
        self._generators[member].set_state(tensors["generator"].cpu())

    def state(self) -> dict[str, Tensor]:
        """Everything that changes during training, as named tensors: ``member.<number>.<name>``."""
        return {
            f"member.{member}.{name}": value
            for member in range(len(self))
            for name, value in self.member_state(member).items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state that :meth:`state` gave. KeyError or RuntimeError where it does not fit."""
        for member in range(len(self)):
            prefix = f"member.{member}."
            own = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
            self.restore_member(member, own)

    def _alike(self) -> list[list[int]]:
        """The members' numbers in groups that go through the same operations."""
        groups: dict[object, list[int]] = {}
        for number, (model, config) in enumerate(zip(self.models, self._configs, strict=True)):
            alone = not self._together or config.train.step == "plain"
            loss, train = config.loss, config.train
            key = (
                *(getattr(loss, name) for name in FORM),
                *(loss.gamma1 > 0, train.precision, train.optimiser, model.shape.normalise),
                number if alone else None,
            )
            groups.setdefault(key, []).append(number)
        return list(groups.values())

    def _find(self, member: int) -> tuple[Parameters, int]:
        numbers, group = next(part for part in self._groups if member in part[0])
        return group.parameters, numbers.index(member)


def _rows(x: Tensor, numbers: Sequence[int]) -> Tensor:
    """Members' rows of a batch, without a copy where they lie side by side."""
    if list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return x[numbers[0] : numbers[-1] + 1]
    return x[list(numbers)]
