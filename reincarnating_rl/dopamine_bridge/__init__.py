"""What Dopamine and gin ask of this package, and what it asks of them."""
