"""Tables of chapter 06."""

from __future__ import annotations

from IPython.display import Markdown

from subspace_lib.chapters.kit.switch import tables as switch_tables
from subspace_lib.chapters.kit.table import table
from subspace_lib.chapters.sam.pilot import Pilot
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.evidence.criteria import SAM_LOWERS


def protocol(study: SamStudy) -> Markdown:
    """The parameters in force, the switches, and the runs that did not come to their end."""
    return switch_tables.protocol(study.minibatch)


def pilot(found: Pilot | None) -> Markdown:
    """The sharpness at the switch by ρ, and the ρ that this chooses."""
    if found is None:
        return Markdown("No pilot belongs to these parameters: ρ is as it was typed.")
    rows, sgd = [], found.sharpness(0.0)
    for rho, run in found.runs.items():
        sharpness = found.sharpness(rho)
        rows.append(
            {
                "rule": run.experiment.method,
                "ρ": f"{rho:g}" if rho else "",
                "switch": f"{found.switch_step(rho):,}",
                "λ₁ there": f"{sharpness:.2f}",
                "over SGD's": f"{sharpness / sgd:.2f}",
            }
        )
    chosen = found.chosen()
    says = "none does" if chosen is None else f"ρ = {chosen:g}"
    seed = found.runs[0.0].experiment.seed
    return table(
        rows, note=f"Seed {seed}. The smallest ρ that lowers λ₁ by {SAM_LOWERS:.0%}: {says}."
    )
