"""The Hessian, its Gauss–Newton part and the rest along SGD: spectra, spaces, layers (Q7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
from pydantic import Field, field_validator

from subspace_lib import data
from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import SMALL, Plan, Seeded, described_first, source
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.experiment import (
    Count,
    DatasetName,
    Device,
    Dimension,
    LossName,
    ModelName,
    Preprocessing,
    Rate,
    Seed,
    Steps,
)
from subspace_lib.linalg.quadrature import Quadrature
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.curvature import Curvature, quadrature_of
from subspace_lib.trajectory import Trajectory


class CurvatureParameters(Seeded):
    """Parameters of chapter 11; those of a run are fields of ``runs.curvature.Curvature``."""

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "unit",
        "model": SMALL,
        "learning_rate": 0.15,
        "steps": 200,
        "anchors": (0, 200),
        "seeds": (0, 1, 2),
        "lanczos_steps": 20,
        "probes": 3,
        "pyhessian": 2,
    }

    dataset: DatasetName = "mnist5k"
    preprocessing: Preprocessing = Field(
        default_factory=lambda fields: data.default_preprocessing(fields.get("dataset"))
    )
    model: ModelName = "mlp"
    loss: LossName = "mse"
    k: Dimension = 10
    learning_rate: Rate = Field(0.01, description="η")
    batch_size: Count = Field(50, description="samples")
    steps: Steps = 20_000
    anchors: tuple[int, ...] = (0, 500, 2000, 5000, 10_000, 20_000)
    lanczos_steps: int = Field(60, ge=1, le=500, description="of each probe")
    probes: int = Field(6, ge=2, le=50, description="random vectors of a spectral density")
    pyhessian: int = Field(3, ge=0, le=50, description="probes of PyHessian's density; 0: none")
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)
    device: Device = "cpu"

    @field_validator("anchors", mode="before")
    @classmethod
    def _anchors_from_text(cls, values: Any) -> Any:
        return numbers(values)

    def run(self, seed: int) -> Curvature:
        """The run of a seed. It has no rows of a training run, so that their parameters are at rest."""
        fields = self.model_dump(exclude={"seeds", *Seeded.model_fields})
        return Curvature.parse(**fields, seed=seed, record_every=None, spectrum_every=None)


@dataclass(frozen=True)
class CurvatureStudy:
    """The runs of the study by seed, and what is read off their tables."""

    parameters: CurvatureParameters
    runs: dict[int, Trajectory]

    @property
    def first(self) -> Trajectory:
        """The run of the first seed, whose densities are drawn."""
        return self.runs[self.parameters.seeds[0]]

    def over_anchors(self, quantity: str, operator: str = "", index: int = 0) -> pd.DataFrame:
        """A quantity by anchor, a column a seed; NaN where a run did not get there, or a solve failed."""
        found = {}
        for seed, run in self.runs.items():
            t = run.table
            t = t[(t["quantity"] == quantity) & (t["operator"] == operator) & (t["index"] == index)]
            found[seed] = t.set_index("anchor")["value"].reindex(self.parameters.anchors)
        return pd.DataFrame(found).astype("float64")

    def at_end(self, quantity: str, operator: str = "", index: int = 0) -> list[float]:
        """A quantity at the last anchor, one number a seed."""
        return self.over_anchors(quantity, operator, index).iloc[-1].tolist()

    def looked(self) -> list[int]:
        """The anchors that the first seed has come to; raises MissingRun where there is none."""
        reached = set(self.first.table["anchor"])
        found = [anchor for anchor in self.parameters.anchors if anchor in reached]
        if not found:
            raise MissingRun(f"{self.first.experiment.key} has come to none of its anchors.")
        return found

    def density(self, anchor: int, operator: str) -> Quadrature:
        """The first seed's spectral density of H or G, or PyHessian's of H at the last anchor."""
        table, p = self.first.table, self.parameters
        rows = table[table["anchor"] == anchor]
        return quadrature_of(rows, operator, p.pyhessian if operator == "PyHessian" else p.probes)

    @property
    def dim(self) -> int:
        """D, the number of parameters."""
        return int(self.over_anchors("parameters").max().max())

    def cut(self, anchor: int, operator: str) -> float:
        """Half way between λ_k and λ_{k+1} of the first seed; NaN where they are not known."""
        seed, k = self.parameters.seeds[0], self.parameters.k
        pair = [self.over_anchors("eigenvalue", operator, i)[seed][anchor] for i in (k, k + 1)]
        return float(sum(pair) / 2)

    def masses(self) -> pd.DataFrame:
        """Share of the eigenvectors' mass by anchor and tensor, mean over seeds; last row: its size."""
        table = pd.concat(run.table for run in self.runs.values())
        mass, size = (table[table["quantity"] == quantity] for quantity in ("mass", "size"))
        order = size.drop_duplicates("name").set_index("name")["value"]
        wide = mass.pivot_table(index="anchor", columns="name", values="value", dropna=False)
        return pd.concat([wide[order.index], order.to_frame("size").T])


@described_first
def curvature_study(
    parameters: CurvatureParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> CurvatureStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    p, get = parameters.resolved(), source(store, compute)
    return CurvatureStudy(p, {seed: get(p.run(seed)) for seed in p.seeds})


def tasks(parameters: CurvatureParameters) -> Stages:
    """Seed by seed."""
    each = [parameters.model_copy(update={"seeds": (seed,)}) for seed in parameters.seeds]
    return ([(curvature_study, p) for p in each],)
