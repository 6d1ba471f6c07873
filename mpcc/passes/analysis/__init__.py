"""Parts of the format analysis: what enters a model, ranges by policy, the search for formats."""
