"""Scripts of this repository: installation, checks, weights."""
