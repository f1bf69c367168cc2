"""How the distribution of work scales: what it costs, and what it needs for a million images."""
