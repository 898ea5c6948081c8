"""Batches → a trained generator: recipe, losses, augmentation, step, loop, state, logs and plots of a run."""
