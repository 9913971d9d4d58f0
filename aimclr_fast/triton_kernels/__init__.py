"""Triton kernels and their launchers: one file per op, which needs torch and triton alone."""
