"""Training: data, augmentation, recipes, the loop, evaluation."""
