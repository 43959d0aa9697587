"""``python -m kadanoff``: the same as the ``kadanoff`` command."""

from kadanoff.cli.app import main

if __name__ == "__main__":
    main()
