"""Tables of chapter 11: means over seeds with their range, a row an anchor."""

from __future__ import annotations

from collections.abc import Callable

from IPython.display import Markdown

from subspace_lib.chapters.curvature.study import CurvatureStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.table import table

# Title of a column: quantity, operator, index.
Columns = dict[str, tuple[str, str, int]]
SPANS = {
    "mean outputs, C": "mean_outputs",
    "class means, C²": "class_means",
    "class losses, C": "class_losses",
}


def values(study: CurvatureStudy) -> Markdown:
    """Eigenvalues and traces of H, G and F."""
    k = study.parameters.k
    columns: Columns = {"λ₁(H)": ("eigenvalue", "H", 1)}
    columns |= {f"{says.eigenvalue(i)}(H)": ("eigenvalue", "H", i) for i in (k, k + 1) if i > 1}
    columns |= {"λ₁(G)": ("eigenvalue", "G", 1), "λ₁(F)": ("eigenvalue", "F", 1)}
    columns |= {f"tr {name}": ("trace", name, 0) for name in ("H", "G", "F")}
    errors = [study.over_anchors("trace_error", name).max().max() for name in ("H", "G", "F")]
    return table(
        _rows(study, columns, says.number),
        note=f"λ₁(F): the largest in absolute value. {says.eigenvalue(k + 1)}: an estimate from below. "
        "Traces: by the probes, with a standard error of at most "
        f"{', '.join(map(says.number, errors))} (H, G, F) in a seed.",
    )


def spaces(study: CurvatureStudy) -> Markdown:
    """Angles between the spaces of H and of G and F, and alignment with each."""
    columns: Columns = {
        "overlap, G": ("overlap", "G", 0),
        "sine, G": ("sine", "G", 0),
        "overlap, F": ("overlap", "F", 0),
        "curvature in H's space that is G's": ("curvature_share", "G", 0),
    }
    columns |= {f"alignment, {name}": ("alignment", name, 0) for name in ("H", "G", "F")}
    return table(
        _rows(study, columns),
        note="Overlap and sine: mean squared cosine, and sine of the largest principal angle, to the space "
        "of H. Curvature: tr(VᵀGV)/tr(VᵀHV), V that of H.",
    )


def classes(study: CurvatureStudy) -> Markdown:
    """Mean squared cosine of the spaces of H and of G with what the classes span."""
    columns: Columns = {
        f"{title} ({name})": (quantity, name, 0)
        for title, quantity in SPANS.items()
        for name in ("H", "G")
    }
    return table(_rows(study, columns), note="In brackets: whose space.")


def _rows(
    study: CurvatureStudy, columns: Columns, say: Callable[[float], str] = says.share
) -> list[dict[str, str]]:
    found = {title: study.over_anchors(*which).T for title, which in columns.items()}
    return [
        {"step": f"{anchor:,}"} | {t: says.mean_of(wide[anchor], say) for t, wide in found.items()}
        for anchor in study.parameters.anchors
    ]
