"""The master: admits tasks and delegates them to regions."""
