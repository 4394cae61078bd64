"""HTTP API, dashboard, read model."""
