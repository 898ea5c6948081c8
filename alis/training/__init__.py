"""Batches → a generator: recipe, losses, augmentation, step, loop, state, and what a run says of itself."""
