"""How a fold becomes durable, once for all tiers."""
