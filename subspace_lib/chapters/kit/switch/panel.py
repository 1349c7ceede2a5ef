"""A switch study that is one of several of a chapter: a network on a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.experiment import Experiment
from subspace_lib.parameters import Description, InvalidParameter
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, gradients_per_step

Key = TypeVar("Key")
LOOSE = 2  # times the target that an angle in use may be for a resolved subspace


class PanelParameters(SwitchParameters):
    """A switch study of one panel. Its spectra have 2k eigenvalues, at the rows that ask for them.

    Where a refresh sees as many as that, with its guards, no spectrum is measured beside. A run without
    spectra has a refresh at its last row, so that its eigenvalues are those of the end.
    """

    def experiment(self, seed: int, **fields: Any) -> Experiment:
        """One run of the panel."""
        every = self.spectrum_every
        if 2 * self.k <= Experiment.model_fields["guards"].default + self.k:
            every = None
        if every is None:
            fields = {"fresh_spans": ((self.steps, self.steps),)} | fields
        return super().experiment(seed, **{"spectrum_every": every} | fields)


def entries(parameters: Description, names: Sequence[str], what: str) -> list[tuple[Any, ...]]:
    """The entries of lists of parameters, side by side: those of the first panel, then the second's.

    Raises:
        InvalidParameter: the lists have different lengths.
    """
    lists = {name: getattr(parameters, name) for name in names}
    if len({len(values) for values in lists.values()}) > 1:
        filled = getattr(parameters, "filled", ())
        told = ", ".join(
            f"{name} {len(values)}{' (by the quick profile)' if name in filled else ''}"
            for name, values in lists.items()
        )
        raise InvalidParameter(f"Each {what} needs one entry of each of these; they have {told}.")
    return list(zip(*lists.values(), strict=True))


def label(study: SwitchStudy) -> str:
    """What a panel is of: network, data, learning rate."""
    p = study.parameters
    return f"{trained(p.model, p.dataset)}, η = {p.learning_rate:g}, k = {p.k}"


def eigenvalue_gap(run: Trajectory) -> float:
    """λ_k/λ_{k+1} as the last refresh saw them; NaN where the second is not positive."""
    k, rows = run.experiment.k, run.table
    first, second = (float(rows[f"eigenvalue_{i:02d}"].iloc[-1]) for i in (k, k + 1))
    return first / second if second > 0 else math.nan


def angle_in_use(run: Trajectory) -> float:
    """Sine of the angle of the basis in use, median over rows; NaN of a run older than that column."""
    return float(run.table["angle"].dropna().median()) if "angle" in run.table else math.nan


def angles_in_use(study: SwitchStudy) -> list[float]:
    """Those of each run of Dom-X and Bulk-X."""
    return [angle_in_use(run) for side in PROJECTIONS[1:] for run in study.of(side)]


def unresolved(sines: Mapping[Key, Sequence[float]], target: float) -> dict[Key, float]:
    """Where the mean of the sines of angles in use is not near the target, and that mean."""
    means = {name: says.mean(found) for name, found in sines.items()}
    return {name: mean for name, mean in means.items() if mean > LOOSE * target}


def not_near(sines: Mapping[str, float]) -> str:
    """With what the basis in use was not known to be near the exact one, by name its sine; else nothing."""
    if not sines:
        return ""
    told = says.listed(f"{name} ({says.share(sine)})" for name, sine in sines.items())
    return (
        f"The basis in use may be far from the exact subspace with {told}; in brackets is the sine of the "
        "angle, the median over rows. Where the spectrum has no gap behind λₖ, several spaces are about as "
        "dominant, and one of them was used."
    )


def over_sgd(study: SwitchStudy, projection: str) -> float:
    """Work of a measured step over that of a step of plain SGD, in gradients; the mean over seeds."""
    p = study.parameters
    plain = p.experiment(0).batch_size / p.samples
    return says.mean(map(gradients_per_step, study.of(projection))) / plain
