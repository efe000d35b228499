"""The mathematics as data: activations, losses, initialisers, update rules, erf. Knows nothing of who uses it."""
