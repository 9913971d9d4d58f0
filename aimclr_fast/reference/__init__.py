"""Pure PyTorch oracles: the math of every op, tested against the authors' numbers.

Nothing here is fast, and nothing here knows of a backend. The fast backends are tested against it.
"""
