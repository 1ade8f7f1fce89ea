"""``python -m netloom`` is ``netloom``."""

from netloom.cli.main import main

if __name__ == "__main__":
    main()
