"""``python -m davfs`` is the ``davfs`` command."""

from davfs.cli.main import entry

if __name__ == "__main__":
    entry()
