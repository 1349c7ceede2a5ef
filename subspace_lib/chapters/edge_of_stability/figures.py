"""Figures of the study of the edge of stability (chapter 05)."""

from __future__ import annotations

from subspace_lib.chapters.edge_of_stability.study import EdgeStudy
from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    INK,
    LINES,
    Picture,
    above,
    band,
    below,
    log_ticks,
    mark_switch,
    methods,
    panels,
    styled,
    styles,
)
from subspace_lib.chapters.kit.switch import figures as switch
from subspace_lib.chapters.kit.switch.study import SwitchStudy

SHORT = {"mse": "MSE", "cross_entropy": "cross-entropy"}


def losses(study: EdgeStudy) -> Picture:
    """Training loss of GD, Dom-GD and Bulk-GD."""
    return switch.losses(study.switch)


def angles(study: EdgeStudy) -> Picture:
    """Measured and certified angle of the subspace along them."""
    return switch.angles(study.switch)


@styled
def sharpness(study: SwitchStudy) -> Picture:
    """λ₁ η/2 and alignment of X, Dom-X and Bulk-X: mean and range over seeds."""
    figure, (top, bottom) = panels(2, height=5.5)
    methods(top, study, "eigenvalue_01", scale=study.parameters.learning_rate / 2)
    top.axhline(1, color=INK, lw=0.8, ls=":")
    top.set(ylabel="λ$_1$ η/2", ylim=(0, None))
    methods(bottom, study, "alignment")
    bottom.set(xlabel="step", ylabel=f"χ$_{{{study.parameters.k}}}$ of ∇L", ylim=(0, 1.02))
    for axes in (top, bottom):
        mark_switch(axes, study)
    below(figure, bottom)
    return Picture(figure, "Sharpness relative to 2/η, and alignment, over steps")


@styled
def cycles(study: EdgeStudy) -> Picture:
    """Every step of GD at the edge: gradient along the top eigenvector, sharpness, loss."""
    figure, parts = panels(3, height=6)
    rows = study.window.table
    parts[0].plot(rows["step"], rows["gradient_top"], color=CYCLE[0], lw=0.9, marker=".", ms=3)
    parts[0].axhline(0, color=INK, lw=0.8)
    parts[0].set_ylabel("v$_1$ᵀ∇L")
    factor = study.window.experiment.learning_rate / 2
    for name, label, (_, colour, dashes) in zip(
        ("eigenvalue_01", "eigenvalue_02"), ("λ$_1$", "λ$_2$"), styles("ab"), strict=False
    ):
        parts[1].plot(rows["step"], factor * rows[name], color=colour, ls=dashes, label=label)
    parts[1].axhline(1, color=INK, lw=0.8, ls=":")
    parts[1].set_ylabel("λ$_i$ η/2")
    above(parts[1])
    parts[2].plot(rows["step"], rows["train_loss"], color=CYCLE[0])
    parts[2].set(xlabel="step", ylabel="training loss L(θ)")
    return Picture(
        figure, "Gradient along the top eigenvector, sharpness and loss at every step of GD"
    )


@styled
def beyond(study: EdgeStudy) -> Picture:
    """λ₁, λ_k and λ_{k+1} of Bulk-GD relative to 2/η: mean and range over seeds."""
    figure, (axes,) = panels(1, height=3.6)
    p, runs = study.parameters, study.switch.of("bulk")
    names = {1: "λ$_1$", p.k: f"λ$_{{{p.k}}}$", p.k + 1: f"λ$_{{{p.k + 1}}}$"}
    for i, colour, dashes in styles(names):
        # A row has the eigenvalues that the last refresh saw, which may be k of them.
        curves = [
            p.learning_rate / 2 * run.table.set_index("step")[f"eigenvalue_{i:02d}"].ffill()
            for run in runs
        ]
        band(axes, curves, colour, dashes, names[i])
    axes.axhline(1, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="step", ylabel="λ$_i$ η/2 of Bulk-GD", ylim=(0, None))
    below(figure, axes)
    return Picture(figure, "Eigenvalues of Bulk-GD at the cut and on top, relative to 2/η")


@styled
def onward(study: EdgeStudy) -> Picture:
    """λ₁, λ_k and λ_{k+1} of a long run of Bulk-GD relative to 2/η, and its loss."""
    figure, (top, bottom) = panels(2, height=5.5)
    p = study.parameters
    (run,) = study.onward.values()
    rows = run.table.set_index("step")
    names = {1: "λ$_1$", p.k: f"λ$_{{{p.k}}}$", p.k + 1: f"λ$_{{{p.k + 1}}}$"}
    for i, colour, dashes in styles(names):
        values = p.learning_rate / 2 * rows[f"eigenvalue_{i:02d}"].ffill()
        top.plot(rows.index, values, color=colour, ls=dashes, label=names[i])
    top.axhline(1, color=INK, lw=0.8, ls=":")
    top.set(ylabel="λ$_i$ η/2 of Bulk-GD", yscale="log")
    log_ticks(top, "y")
    above(top)
    bottom.plot(rows.index, rows["train_loss"], color=COLOURS["bulk"], ls=LINES["bulk"])
    bottom.set(xlabel="step", ylabel="training loss L(θ)", yscale="log")
    log_ticks(bottom, "y")
    return Picture(figure, "Eigenvalues of a long run of Bulk-GD relative to 2/η, and its loss")


@styled
def approaches(study: EdgeStudy) -> Picture:
    """λ₁ η/2 and alignment of GD on its way to the edge, over time η · step."""
    figure, (top, bottom) = panels(2, height=5.8)
    first = study.parameters.approach_seeds[0]
    ways = [way for way in study.approaches if way[2] == first]
    for way, colour, dashes in styles(ways):
        loss, rate, _ = way
        rows = study.approaches[way].table.iloc[1:]  # step 0 has no place on a log axis
        time, label = rate * rows["step"], f"{SHORT[loss]}, η = {rate:g}"
        top.plot(time, rate / 2 * rows["eigenvalue_01"], color=colour, ls=dashes, label=label)
        bottom.plot(time, rows["alignment"], color=colour, ls=dashes, lw=1)
    top.axhline(1, color=INK, lw=0.8, ls=":")
    top.set(ylabel="λ$_1$ η/2", ylim=(0, None), xscale="log")
    bottom.set(xlabel="time, η · step", ylabel="alignment of ∇L", ylim=(0, 1.02))
    log_ticks(bottom, "x")
    below(figure, top)
    return Picture(figure, "Sharpness relative to 2/η, and alignment, on the way to the edge")


@styled
def pair(study: EdgeStudy) -> Picture:
    """GD, the mean of its last iterates, and Bulk-GD: losses, and distances to Bulk-GD."""
    figure, (top, bottom) = panels(2, height=5.5)
    rows, average = study.pair.table, study.pair.experiment.average
    losses = {"loss": "GD", "loss_average": f"mean of GD's last {average} iterates"}
    for column, colour, dashes in styles(losses):
        top.plot(rows["step"], rows[column], color=colour, ls=dashes, label=losses[column])
    bulk = rows["loss_bulk"]
    top.plot(rows["step"], bulk, color=COLOURS["bulk"], ls=LINES["bulk"], label="Bulk-GD")
    top.set_ylabel("training loss L(θ)")
    distances = {
        "distance": "GD to Bulk-GD",
        "distance_average": "its mean to Bulk-GD",
        "travelled": "Bulk-GD from the switch",
    }
    for column, colour, dashes in styles(distances):
        bottom.plot(rows["step"], rows[column], color=colour, ls=dashes, label=distances[column])
    bottom.set(xlabel="step", ylabel="distance ‖Δθ‖")
    for axes in (top, bottom):
        above(axes)
    return Picture(figure, "GD, its averaged iterate and Bulk-GD: losses and distances")
