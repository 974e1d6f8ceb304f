"""`python -m sparkvsr`: the command line, where the script `sparkvsr` is not on the path."""

from sparkvsr.cli.main import run

if __name__ == "__main__":
    run()
