"""Side by side: what it costs to follow the dominant subspace, by this library and by others.

``make benchmark`` runs every case and writes ``results/benchmark.json``; ``notebooks/12_cost`` shows it.
"""
