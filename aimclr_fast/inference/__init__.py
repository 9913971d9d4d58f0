"""What users of a trained encoder need: loading it, its classifier heads, its features."""
