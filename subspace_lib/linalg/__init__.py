"""Linear algebra on blocks of long vectors; knows no network and no learning rate."""
