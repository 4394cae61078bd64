"""The worker: pulls, runs user code in children, reports."""
