"""How work is listed, stored, distributed and gathered."""
