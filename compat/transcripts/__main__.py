"""``python -m compat.transcripts URL [NAME...] [--through URL2] [--size BYTES]``: transcripts of clients, one line a step."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from compat.report import EXIT_FAILED, EXIT_OK, CompatError
from compat.target import parse, parser
from compat.transcripts.play import DEFAULT_SIZE, play
from compat.transcripts.script import read, transcripts


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 0 when every step of every transcript was right, else 1."""
    files = transcripts()
    arguments = parser(__doc__ or "")
    arguments.add_argument("name", nargs="*", help=f"which of {', '.join(files)} (default: all)")
    arguments.add_argument("--through", action="append", default=[], metavar="URL", help="look at effects here too")
    arguments.add_argument("--size", type=int, default=DEFAULT_SIZE, help="bytes of the large file (100,000,000)")
    given = arguments.parse_intermixed_args(argv)
    if unknown := set(given.name) - set(files):
        arguments.error(f"no transcript {', '.join(sorted(unknown))}; there are {', '.join(files)}")
    code = EXIT_OK
    for name in given.name or files:
        try:
            ended = play(read(files[name]), parse(given), given.through, given.size).finish()
        except CompatError as error:
            print(f"failed: {name}: {error}", flush=True)
            ended = EXIT_FAILED
        code = code or ended
    return code


if __name__ == "__main__":
    sys.exit(main())
