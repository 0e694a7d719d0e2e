"""The engine for `Conv4` on a GPU: all episodes at once, gradients written out."""
