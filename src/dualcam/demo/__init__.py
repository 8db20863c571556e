"""The demo: real photos explained with the default model, and a whole small run of the product."""
