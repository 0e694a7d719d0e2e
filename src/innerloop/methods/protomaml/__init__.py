"""ProtoMAML."""
