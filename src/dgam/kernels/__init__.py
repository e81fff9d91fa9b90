"""Kernels of the training step on a GPU, in Triton, which comes with PyTorch for CUDA.

What they compute, and in which order they are called, says ``dgam.training.gpu_step``; each has a function
that takes tensors. E is the number of members, the leading axis everywhere; n = B·T is the number of snippets
in a batch. Arithmetic is in float32, products of matrices take what the features are kept in. Sums over
snippets are taken block by block into a row for each program and added up after that, in the same order
always, so results repeat to the bit.
"""
