"""iMAML."""
