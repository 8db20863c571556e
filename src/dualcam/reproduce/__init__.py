"""The paper's tables and figures from recipes: what is missing is run, what is done is skipped."""
