"""How the tables came about, step by step; run at the start of whatever opens the store."""
