"""Results on disk: stored, resumed, repeated, each with how it was made."""
