"""What it costs to follow the dominant subspace: over plain SGD, and beside the solvers of others.

``make benchmark`` runs every case and writes ``results/benchmark.json``; ``notebooks/12_cost`` shows it.
"""
