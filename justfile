# What there is to do here, a sentence each. `uv run just RECIPE`.

_list:
    @just --list --unsorted

# Start a whole Echelon on this machine.
up *ARGS:
    uv run echelon up {{ARGS}}

# Run the tests; `just test tests/unit` takes seconds.
test *ARGS:
    uv run pytest {{ARGS}}

# Lint, types, import contracts.
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy
    uv run lint-imports

# Count the standard library on an Echelon that runs here, and compare with a plain loop.
demo:
    uv run echelon demo census --check

# Kill each process once while 20,000 tasks run, and judge what became of them; `just kill --seed 7`.
kill *ARGS:
    uv run python tests/e2e/kill.py {{ARGS}}

# The figures: medians of five runs, spread, limits; `just bench drain` for one of them.
bench *ARGS:
    uv run python tests/benchmarks/bench.py {{ARGS}}

# Write the generated pages of docs/.
docs:
    PYTHONPATH=tests uv run python tests/tidy/draw_life.py

# Write the golden files: command line help and stored entries. Read the difference before you commit it.
golden:
    PYTHONPATH=tests uv run python tests/unit/test_cli_help.py
    PYTHONPATH=tests uv run python tests/golden/entries/samples.py
