"""``python -m subspace_lib.claims``: the ledger (``subspace_lib.chapters.ledger``)."""

from subspace_lib.chapters.ledger import main

if __name__ == "__main__":
    main()
