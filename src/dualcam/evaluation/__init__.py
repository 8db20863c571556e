"""One pass over photos, any grid of methods, branches, signs and normalizations, one table with intervals."""
