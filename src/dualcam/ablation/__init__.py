"""Which ingredient of the method brings what: heads, clamps and normalizations over several seeds, in one study."""
