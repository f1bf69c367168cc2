"""What a rendered field shows: stain, optics and how many cells of which kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["lymphoblast", "haematogone", "neutrophil", "monocyte"]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Stain:
    """Colours of a smear.

    ``background``: RGB, 0 to 255, where no cell lies. The others are optical densities of red,
    green and blue light (natural logarithm; light falls to ``exp(-density)``) where the structure
    is as thick as it usually is.
    """

    background: Triple
    red_cell: Triple
    chromatin: Triple
    cytoplasm: Triple
    granules: Triple


#: Colours as they are in Leishman- and Giemsa-stained fields of different slides.
BLUE = Stain(
    background=(245, 254, 247),
    red_cell=(0.50, 0.36, 0.16),
    chromatin=(0.50, 0.84, 0.03),
    cytoplasm=(0.48, 0.38, 0.08),
    granules=(0.30, 0.55, 0.12),
)
LILAC = Stain(
    background=(251, 250, 247),
    red_cell=(0.27, 0.27, 0.12),
    chromatin=(0.62, 1.05, 0.06),
    cytoplasm=(0.34, 0.29, 0.03),
    granules=(0.22, 0.50, 0.10),
)
PINK = Stain(
    background=(253, 253, 248),
    red_cell=(0.27, 0.22, 0.09),
    chromatin=(0.24, 0.62, 0.04),
    cytoplasm=(0.27, 0.22, 0.05),
    granules=(0.15, 0.42, 0.10),
)
#: Too much eosin, as with an acid buffer: orange red cells and dull violet nuclei.
EOSIN = Stain(
    background=(240, 232, 226),
    red_cell=(0.09, 0.38, 0.40),
    chromatin=(0.80, 1.20, 0.48),
    cytoplasm=(0.36, 0.30, 0.12),
    granules=(0.14, 0.50, 0.30),
)


@dataclass(frozen=True)
class FieldRecipe:
    """How to render a field.

    ``white_cells``: how many of each kind on average (the number varies like a Poisson variable).
    ``red_cell_diameter``: pixels; everything else is drawn in proportion. ``red_cells``: how many.
    ``rouleaux``: share of red cells that lie in stacks. ``size_variation``: relative standard
    deviation of the red cells' diameter (anisocytosis). ``pallor``: 0 to 1, how pale red cells are
    in their middle. ``touching`` and ``at_edge``: share of white cells that touch another or are
    cut by the edge of the field. ``platelets``, ``debris``, ``smudges``: numbers on average.
    ``defocus``: standard deviation of the blur in pixels. ``noise``: standard deviation in grey
    levels at full brightness. ``unevenness``: relative loss of light towards the corners.
    """

    stain: Stain = BLUE
    white_cells: Mapping[Kind, float] = field(default_factory=lambda: {"lymphoblast": 5.0})
    width: int = 1024
    height: int = 768
    red_cell_diameter: float = 62.0
    red_cells: int = 90
    rouleaux: float = 0.3
    size_variation: float = 0.08
    pallor: float = 0.8
    touching: float = 0.25
    at_edge: float = 0.15
    platelets: float = 5.0
    debris: float = 6.0
    smudges: float = 0.0
    defocus: float = 0.9
    noise: float = 1.8
    unevenness: float = 0.08
    scale_bar: bool = True


_MANY_BLASTS = FieldRecipe(
    white_cells={"lymphoblast": 9.0, "haematogone": 0.6},
    red_cells=85,
    touching=0.35,
    platelets=1.0,
    smudges=0.6,
)
_NORMAL = FieldRecipe(
    stain=LILAC,
    white_cells={"neutrophil": 1.6, "haematogone": 0.8, "monocyte": 0.6},
    red_cells=130,
    red_cell_diameter=60.0,
    touching=0.05,
    platelets=12.0,
    rouleaux=0.25,
)
_MIXED = FieldRecipe(
    stain=PINK,
    white_cells={"lymphoblast": 3.5, "haematogone": 2.0, "neutrophil": 0.7, "monocyte": 0.3},
    red_cells=115,
    red_cell_diameter=61.0,
    size_variation=0.13,
    rouleaux=0.2,
)
_FEW_CELLS = FieldRecipe(
    stain=EOSIN,
    white_cells={"lymphoblast": 1.2},
    red_cells=60,
    red_cell_diameter=58.0,
    debris=10.0,
)
_HAEMATOGONES = replace(
    _NORMAL,
    white_cells={"haematogone": 5.0, "neutrophil": 0.8, "lymphoblast": 0.6},
    red_cell_diameter=58.0,
    touching=0.2,
)

#: The kinds of patients of which a sample set is made, by name.
RECIPES: Mapping[str, FieldRecipe] = {
    "many_blasts": _MANY_BLASTS,
    "normal": _NORMAL,
    "mixed": _MIXED,
    "few_cells_unusual_stain": _FEW_CELLS,
    "haematogones": _HAEMATOGONES,
    "out_of_focus": replace(_MANY_BLASTS, stain=LILAC, defocus=7.0),
}
