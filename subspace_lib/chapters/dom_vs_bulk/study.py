"""SGD, Dom-SGD and Bulk-SGD, and Dom-SGD at twice the learning rate (C2, C3)."""

from __future__ import annotations

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import by_seed, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_study
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

REPLICATION_SWITCH = 1950  # the step near which the public replication switches
STALE = 500  # steps for which the stale basis is left as it is


def replication_study(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool = True
) -> dict[str, Trajectory]:
    """Dom-SGD at twice the learning rate: does its loss rise, and does a stale basis make it rise?

    A loss without ½ at η, as in the public replication, is ours at 2η. The first seed, by kind of basis:
    certified, or left as it is for 500 steps. Twice the rate doubles the jitter that turns the subspace
    at every step, so the target angle is doubled. The switch is at step 1,950, or halfway in runs that
    are too short for that.
    """
    parameters, get = parameters.resolved(), source(store, compute)
    switch = min(REPLICATION_SWITCH, parameters.steps // 2)
    stale = min(STALE, parameters.steps // 10)
    # A recorded row refreshes the basis, so rows must be as rare as refreshes.
    rare = {"refresh_every": stale, "record_every": stale, "spectrum_every": 2 * stale}
    runs = {}
    for kind, changes in {"certified": {}, f"stale by up to {stale} steps": rare}.items():
        faster = {
            "learning_rate": 2 * parameters.learning_rate,
            "target_angle": min(0.5, 2 * parameters.target_angle),
            **changes,
        }
        changed = parameters.model_copy(update=faster)
        runs[kind] = get(changed.run(parameters.seeds[0], "dominant", switch))
    return runs


def tasks(parameters: SwitchParameters) -> Stages:
    """The study seed by seed; then what the first seed alone shows."""
    seeds = [(switch_study, p) for p in by_seed(parameters)]
    return seeds, [(replication_study, parameters)]
