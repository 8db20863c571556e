"""Adapters to other libraries, one file each; each is an optional extra and is imported there only."""
