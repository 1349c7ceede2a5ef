"""2026-11-25: every provenance.json gets a seal, the SHA-256 of all else that is in it.

Until then a changed digit in it went unnoticed. Nothing else changes. Run once: ``python 1_seal.py``.
"""

import hashlib
import json
from pathlib import Path

for path in sorted(Path(__file__).resolve().parent.parent.glob("*/provenance.json")):
    record = json.loads(path.read_text())
    if "seal" not in record:
        content = json.dumps(record, sort_keys=True)
        record["seal"] = hashlib.sha256(content.encode()).hexdigest()
        path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
