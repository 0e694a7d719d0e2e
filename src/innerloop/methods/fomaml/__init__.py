"""FO-MAML."""
