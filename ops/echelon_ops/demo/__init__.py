"""Real work to click on."""
