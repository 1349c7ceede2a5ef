"""``{reading}``: how long the chapters take to read, from their words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from subspace_lib.book.made import Made, notebooks

PACE = 200  # words a minute, of a text with formulas and figures
NO_PROSE = re.compile(r"^\|.*$|<details>.*?</details>|^[#:`]\S*", re.M | re.S)


class Reading(Made):
    """``{reading}``: minutes of a chapter, and of all."""

    def html(self) -> str:
        """A sentence; nothing where the book has no notebooks."""
        found = [
            minutes(json.loads(path.read_text(encoding="utf-8")))
            for path in notebooks(self.env.app).values()
        ]
        if not found:
            return ""
        return (
            f"<p>A chapter takes {min(found)} to {max(found)} minutes to read, all {len(found)} some "
            f"{round(sum(found), -1)}.</p>"
        )


def minutes(notebook: Mapping[str, Any]) -> int:
    """Of a notebook's text and answers; tables, folded parts and code are not read."""
    texts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            texts.append("".join(cell["source"]))
        for output in cell.get("outputs", ()):
            texts.append("".join(output.get("data", {}).get("text/markdown", "")))
    words = sum(len(NO_PROSE.sub("", text).split()) for text in texts)
    return max(1, round(words / PACE))
