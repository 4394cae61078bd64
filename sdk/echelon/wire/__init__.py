"""What crosses releases: requests, answers, frames, names. Changes only by adding."""
