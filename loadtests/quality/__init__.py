"""How good a bundle's translations are: scores on test sets, and a table of what it must not stumble over."""
