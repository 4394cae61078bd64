"""What sees all tiers: CLI, supervisor, doctor, demo."""
