"""The stock network on a CPU without autograd: register-tiled kernels, one episode a thread."""
