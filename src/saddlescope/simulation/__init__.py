"""How a problem, a method and a plan become a run."""
