"""MAML and FO-MAML."""
