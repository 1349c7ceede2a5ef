"""2026-11-25: descriptions that say all that they mean, and the keys that follow from them.

Until then a description left out its younger parameters, did not say what kind of run it was of, nor how
the inputs had been preprocessed (all were standardised), and had the device in it, which changes rounding
only and is now part of the provenance. Plain runs that follow the subspace at recorded rows only said so by
a number of steps, and a spectrum that is never taken by an enormous one. ``refresh`` and ``project`` are
called ``refresh_every`` and ``projected``, the comparison of two branches is a pair.

No measurement changes: ``measurements.parquet`` stays as it is, bit by bit. ``keys.csv`` beside this script
has the old and the new keys. Run once: ``python 2_rekey.py``.
"""

import csv
import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
YOUNGER = {
    "before": [],
    "beta": 0.9,
    "rho": 0.05,
    "noise": "none",
    "noise_batch": 50,
    "classes": 10,
    "record_spans": [],
    "project": "update",
    "stop_above": None,
    "period": 1,
}
# What only one kind of run has.
KINDS = {
    "lags": "survey",
    "average": "pair",
    "directions": "amplification",
    "condition": "valley",
    "outliers": "regression",
}
RENAMED = {"refresh": "refresh_every", "project": "projected"}


def kind_of(old):
    return next((kind for name, kind in KINDS.items() if name in old), "training")


def described_anew(old):
    kind = kind_of(old)
    if kind in ("valley", "regression"):
        return {"kind": kind, **old}
    new = {**YOUNGER, **old, "kind": kind, "preprocessing": "standardized"}
    assert new.pop("device") == "cpu"
    at_rows_only = new["refresh"] in (new["record_every"], new["steps"]) and new["refresh"] != 1
    if new["projection"] == "none" and new["watch_alignment"] is None and at_rows_only:
        new["refresh"] = "adaptive"
    if new["spectrum_every"] >= 10**6 * new["record_every"]:
        new["spectrum_every"] = None
    return {RENAMED.get(name, name): value for name, value in new.items()}


def key_of(old_key, kind, new):
    name = old_key.rsplit("-", 1)[0]
    name = name.replace("valley2d-", "valley-") if kind == "valley" else name
    name = name.replace("-valley-s", "-pair-s") if kind == "pair" else name
    digest = hashlib.sha256(json.dumps(new, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:10]}"


def sha256(content):
    return hashlib.sha256(content.encode()).hexdigest()


rows = []
for folder in sorted(path.parent for path in ROOT.glob("*/provenance.json")):
    old = json.loads((folder / "description.json").read_text())
    assert "kind" not in old, "done already"
    new = described_anew(old)
    key = key_of(folder.name, new["kind"], new)
    text = json.dumps(new, indent=1, sort_keys=True) + "\n"
    record = json.loads((folder / "provenance.json").read_text())
    record["sha256"]["description.json"] = sha256(text)
    record["machine"]["device"] = "cpu"
    del record["seal"]
    record["seal"] = sha256(json.dumps(record, sort_keys=True))
    (folder / "description.json").write_text(text)
    (folder / "provenance.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    folder.rename(ROOT / key)
    rows.append((folder.name, key))
with open(Path(__file__).with_name("keys.csv"), "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("old", "new"))
    writer.writerows(rows)
