"""PivotGym."""
