"""Rendered blood smears whose every cell is known, to try the software and to test it."""

from pipeline.samples.field import SyntheticField, TruthCell, render_field
from pipeline.samples.recipe import RECIPES, FieldRecipe, Kind, Stain
from pipeline.samples.write import SampleSet, write_samples

__all__ = [
    "RECIPES",
    "FieldRecipe",
    "Kind",
    "SampleSet",
    "Stain",
    "SyntheticField",
    "TruthCell",
    "render_field",
    "write_samples",
]
