"""Logs today; metrics and traces join them here."""
