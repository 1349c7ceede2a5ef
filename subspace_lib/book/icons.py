"""The theme's icons: of two thousand in one script, those that a page or a script of the site names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sphinx.application import Sphinx

SCRIPT = "_static/scripts/fontawesome.js"
NAMED = re.compile(r"\bfa-([a-z0-9-]+)")
# name:[width,height,[aliases and code points],"code point","path"], as the script's tables have them
ICON = re.compile(
    r'(?P<name>"[\w-]+"|[\w$]+):\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]*",(?:"[^"]*"|\[[^\]]*\])\],?'
)


def reduce_icons(app: Sphinx, error: Exception | None) -> None:
    """Leave in the site's script the icons that are named; a page then loads half as much.

    A script that looks otherwise, of another version of the theme, stays as it is.
    """
    script = Path(app.outdir) / SCRIPT
    if error is not None or app.builder.format != "html" or not script.exists():
        return
    used = named(path for path in Path(app.outdir).rglob("*") if path != script)
    whole = script.read_text(encoding="utf-8")
    script.write_text(reduced(whole, used), encoding="utf-8")


def named(paths: Iterable[Path]) -> set[str]:
    """Names of icons in pages and scripts."""
    texts = (p.read_text(encoding="utf-8") for p in paths if p.suffix in (".html", ".js"))
    return {name for text in texts for name in NAMED.findall(text)}


def reduced(script: str, used: set[str]) -> str:
    """The script without the icons that are used neither by their name nor by an alias."""

    def kept(icon: re.Match[str]) -> str:
        names = {icon["name"].strip('"'), *re.findall(r'"([\w-]+)"', icon["aliases"])}
        return icon[0] if names & used else ""

    return ICON.sub(kept, script)
