"""Training alone: the point, the rule and the batches, phase after phase. Nothing is measured here."""

from __future__ import annotations

import torch
from torch import Tensor

from subspace_lib import data, models, optimizers
from subspace_lib.experiment import Experiment, Phase
from subspace_lib.noise import GradientNoise
from subspace_lib.objective import Objective
from subspace_lib.own import is_path, said
from subspace_lib.parameters import InvalidParameter
from subspace_lib.runs.batches import Batches
from subspace_lib.runs.protocol import Diverged, State, nested, within


class Trainer:
    """The plain update rule of an experiment on its way: θ, the rule's state, the next step.

    Attributes:
        objective: L(θ), with the counts of the work done; test: inputs and labels not trained on.
        theta: (D,); step: the number of updates that have led to it.
        rule, rule_state, batches: of the phase that the next step belongs to.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = e = experiment
        dataset = data.load(e.origin(e.dataset), e.preprocessing).first_classes(e.classes)
        self.objective = self._objective(dataset)
        if not is_path(e.dataset):
            self.objective.subset_seed = None  # the choice that the stored runs were computed with
        self._check_sizes()
        self.test = dataset.test_inputs.to(e.device), dataset.test_labels.to(e.device)
        self.noise = None
        if e.noise != "none":
            self.noise = GradientNoise(self.objective, e.noise, e.noise_batch, e.seed)
        self.theta = self.objective.initial()
        self.step = 0
        self._enter()
        self.rule_state = self.rule.init(self.theta)

    def _objective(self, dataset: data.Dataset) -> Objective:
        """L(θ) of the model on the training data.

        Tests hold the derivatives of this book's networks, and batch statistics have no loss of a sample:
        the self-test is for the user's own.

        Raises:
            InvalidParameter: a model of the user's own cannot be built, or has no L(θ).
        """
        e, inputs, own = self.experiment, dataset.train_inputs, is_path(self.experiment.model)
        try:
            model = models.build(
                e.origin(e.model), dataset.shape, dataset.classes, e.seed, inputs, dataset.prepare
            )
            return Objective(
                model,
                e.loss,
                inputs,
                dataset.train_labels,
                prepare=dataset.prepare,
                together=True,
                chunk=e.chunk,
                device=e.device,
                check=own,
            )
        except Exception as error:
            if not own:
                raise
            start = f"model = {e.model!r}"
            told = str(error).rstrip(".") if isinstance(error, ValueError) else said(error)
            told = told if told.startswith(start) else f"{start}: {told}"
            raise InvalidParameter(f"{told}.") from error

    def _check_sizes(self) -> None:
        e, samples = self.experiment, len(self.objective)
        for size in (e.batch_size, *(phase.batch_size or 1 for phase in e.before)):
            if size > samples:
                raise InvalidParameter(
                    f"batch_size = {size} must be at most {samples}, the size of {e.dataset} with "
                    f"{e.classes} classes."
                )

    def _enter(self) -> None:
        """Take up the rule and the batches of the phase that the step belongs to."""
        e = self.experiment
        phase = next((p for p in e.before if self.step < p.until), Phase(until=e.steps))
        self.rule = optimizers.build(
            phase.optimizer or e.optimizer,
            phase.learning_rate or e.learning_rate,
            e.beta,
            e.rho,
            self.objective.layout,
        )
        self.batches = Batches(len(self.objective), phase.batch_size or e.batch_size, e.seed)

    def gradient(self, displacement: Tensor | None = None) -> Tensor:
        """The gradient that the step uses, at θ or displaced from it, of the step's minibatch.

        Raises:
            Diverged: the minibatch loss is not finite.
        """
        theta = self.theta if displacement is None else self.theta + displacement
        loss, gradient = self.objective.gradient(theta, self.batches.rows(self.step))
        if not torch.isfinite(loss):
            raise Diverged
        if self.noise is not None and self.step >= self.experiment.switch_step:
            gradient = gradient + self.noise.draw(theta, self.step)
        return gradient

    def update(self, gradient: Tensor) -> tuple[optimizers.State, Tensor]:
        """The rule's next state and update, for the gradient at θ."""
        displacement = self.rule.lookahead(gradient)
        if displacement is not None:
            gradient = self.gradient(displacement)
        return self.rule.update(self.rule_state, gradient, self.theta)

    def peek(self) -> tuple[Tensor, optimizers.State, Tensor]:
        """Minibatch gradient, next state of the rule and update of the next step, without taking it."""
        gradient = self.gradient()
        state, update = self.update(gradient)
        return gradient, state, update

    def move(self, state: optimizers.State, update: Tensor) -> None:
        """Take the step: θ ← θ + u; a phase with another rule, or another η, begins with a fresh state."""
        self.rule_state = state
        self.theta = self.theta + update
        self.step += 1
        if any(self.step == phase.until for phase in self.experiment.before):
            rule = self.rule
            self._enter()
            if self.rule != rule:
                self.rule_state = self.rule.init(self.theta)

    def advance(self) -> None:
        """One plain step."""
        _, state, update = self.peek()
        self.move(state, update)

    def state(self) -> State:
        """Everything that the rest depends on, as tensors."""
        o = self.objective
        return {
            "theta": self.theta,
            "counts": torch.tensor([self.step, o.products]),
            "gradient_equivalents": torch.tensor([o.gradient_equivalents], dtype=torch.float64),
            **nested("rule", self.rule_state),
        }

    def load_state(self, state: State) -> None:
        """Continue from ``state()``."""
        device = self.experiment.device
        self.theta = state["theta"].to(device)
        self.step, self.objective.products = state["counts"].tolist()
        self.objective.gradient_equivalents = float(state["gradient_equivalents"])
        self._enter()
        self.rule_state = {n: v.to(device) for n, v in within("rule", state).items()}
