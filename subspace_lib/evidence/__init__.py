"""How numbers become verdicts: criteria, each with date and source, and how they are applied."""
