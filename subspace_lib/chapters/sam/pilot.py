"""How ρ is chosen, before any judged run: the smallest that lowers the sharpness by a fifth, on seed 0.

The paper's ρ is not known. The pilot's runs are stored like all others, and are never judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from subspace_lib.chapters.kit.study import Plan, described_first, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_step
from subspace_lib.evidence.criteria import PILOT_SEED, SAM_LOWERS
from subspace_lib.experiment import Experiment, Radius
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

EVERY = 50  # steps between spectra: the sharpness at the switch is that of the last one up to it


class PilotParameters(SwitchParameters):
    """Parameters of the pilot: SGD and minibatch SAM, each up to the latest step of its switch."""

    rhos: tuple[Radius, ...] = (0.01, 0.02, 0.05, 0.1)

    def runs(self) -> dict[float, Experiment]:
        """By ρ; SGD at 0."""
        end = {"record_every": EVERY, "spectrum_every": EVERY, "steps": self.switch_step + 1}
        found = {}
        for rho in (0.0, *self.rhos):
            rule = {"optimizer": "sam", "rho": rho} if rho else {"optimizer": "sgd"}
            found[rho] = self.model_copy(update={**end, **rule}).run(PILOT_SEED, "none")
        return found


@dataclass(frozen=True)
class Pilot:
    """The pilot's runs by ρ, SGD at 0."""

    parameters: PilotParameters
    runs: dict[float, Trajectory]

    def switch_step(self, rho: float) -> int:
        """Where that run's alignment asks for the switch."""
        return switch_step(self.parameters, self.runs[rho])[0]

    def sharpness(self, rho: float) -> float:
        """λ₁ at that step, as the last spectrum up to it has it."""
        table = self.runs[rho].table
        return float(table.loc[table["step"] <= self.switch_step(rho), "eigenvalue_01"].iloc[-1])

    def chosen(self) -> float | None:
        """The smallest ρ whose λ₁ is lower than SGD's by a fifth; None where there is none."""
        enough = (1 - SAM_LOWERS) * self.sharpness(0.0)
        rhos = [rho for rho in self.parameters.rhos if self.sharpness(rho) <= enough]
        return min(rhos, default=None)


@described_first
def pilot_study(
    parameters: PilotParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> Pilot:
    """Load the pilot, or compute what is missing of it."""
    get = source(store, compute)
    return Pilot(parameters, {rho: get(run) for rho, run in parameters.runs().items()})
