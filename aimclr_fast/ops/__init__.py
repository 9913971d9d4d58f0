"""Ops: one file each, holding its checks, its backends and how they are chosen."""
