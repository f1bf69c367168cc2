"""How good a model is, on images it was not trained on, and what it looks at."""
