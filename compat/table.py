"""One table of all clients: client x operation x node, as Markdown.

``python -m compat.table URL URL2 ...`` (the same collection, each URL through another node) runs every runner and every
transcript through each URL, and prints a row for each operation of a client and a column for each URL. A client that is
not installed is in the table as not run. Must not import: davfs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from compat import (
    cadaver,
    curl,
    davfs2,
    gio,
    litmus,
    node_webdav,
    rclone,
    rclone_chunked,
    rclone_mount,
    tus,
    webdav4_client,
)
from compat.report import EXIT_FAILED, EXIT_OK, CompatError, Report, ToolMissing
from compat.target import Target, parser
from compat.transcripts.play import play
from compat.transcripts.script import Transcript, read, transcripts

RUNNERS = {
    "litmus": litmus,
    "cadaver": cadaver,
    "curl": curl,
    "gvfs (gio)": gio,
    "webdav4 (Python)": webdav4_client,
    "webdav (Node)": node_webdav,
    "rclone": rclone,
    "rclone, vendor nextcloud": rclone_chunked,
    "tus": tus,
    "davfs2": davfs2,
    "rclone mount": rclone_mount,
}
OK, FAILED, NOT_RUN = "ok", "**failed**", "not run"
SMALL = {"files": 60, "size": 3_000_000}
URL = re.compile(r"https?://\S+?(?=,? |$)")


@dataclass
class Table:
    """Outcomes by (client, operation) and column; rows in the order in which they first came."""

    columns: list[str]
    cells: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    def put(self, client: str, operation: str, column: str, outcome: str) -> None:
        """Set a cell; of two outcomes of one operation a failure stays."""
        row = self.cells.setdefault((client, operation), {})
        row[column] = outcome if row.get(column, OK) == OK else row[column]

    def add(self, client: str, column: str, work: Callable[[], Report], named: Callable[[str], str]) -> None:
        """Run a client and set its cells; `named` is the operation that a step's name stands for."""
        try:
            report = work()
        except ToolMissing as tool:
            self.put(client, "all", column, NOT_RUN)
            self.details.append(f"{client}, {column}: {tool}")
            return
        except CompatError as error:
            self.put(client, "all", column, FAILED)
            self.details.append(f"{client}, {column}: {error}")
            return
        for step in report.steps:
            self.put(client, named(step.name), column, OK if step.ok else FAILED)
            if not step.ok:
                self.details.append(f"{client}, {step.name}, {column}: {step.detail}")

    @property
    def exit_code(self) -> int:
        """0 when nothing failed (what was not run is not a failure)."""
        return EXIT_FAILED if any(FAILED in row.values() for row in self.cells.values()) else EXIT_OK

    def text(self) -> str:
        """The table in Markdown, then a list of what went wrong or was not run."""
        lines = [_row(["client", "operation", *self.columns]), _row(["---"] * (2 + len(self.columns)))]
        before, clients = "", list(dict.fromkeys(client for client, _ in self.cells))
        for (client, operation), row in sorted(self.cells.items(), key=lambda item: clients.index(item[0][0])):
            shown = "" if client == before else client
            lines.append(_row([shown, operation, *(row.get(column, "") for column in self.columns)]))
            before = client
        return "\n".join([*lines, "", *(f"- {detail}" for detail in self.details)]).rstrip() + "\n"


def fill(table: Table, target: Target, column: str, others: Sequence[str], options: argparse.Namespace) -> None:
    """Run every client through one URL into one column."""
    for name, module in RUNNERS.items():
        if options.only and name not in options.only:
            continue
        arguments_parser = parser("")
        module.extend(arguments_parser)
        arguments = arguments_parser.parse_args([target.url])
        for option in ("files", "through"):
            if hasattr(arguments, option):
                setattr(arguments, option, options.files if option == "files" else list(others))
        table.add(name, column, partial(module.check, target, arguments), _anywhere)
    for transcript in _read_all(options.only):
        work = partial(play, transcript, target, others, options.size)
        table.add(f"{transcript.client} (transcript)", column, work, _operation)


def _anywhere(step: str) -> str:
    return URL.sub("each node", step)


def _operation(step: str) -> str:
    return step.partition(":")[0]


def _read_all(names: Sequence[str]) -> Iterator[Transcript]:
    for name, path in transcripts().items():
        if not names or name in names:
            yield read(path)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0 when nothing failed, else 1."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("others", nargs="*", metavar="URL2", help="the same collection through other nodes")
    arguments.add_argument("--name", action="append", default=[], help="a column's heading, in the order of the URLs")
    arguments.add_argument("--files", type=int, default=SMALL["files"], help="files of the trees that are copied")
    arguments.add_argument("--size", type=int, default=SMALL["size"], help="bytes of a transcript's large file")
    known = "; ".join([*RUNNERS, *transcripts()])
    arguments.add_argument("--only", action="append", default=[], help=f"only this client or transcript of {known}")
    arguments.add_argument("--out", type=Path, help="write the table here too")
    given = arguments.parse_intermixed_args(argv)
    if unknown := set(given.only) - {*RUNNERS, *transcripts()}:
        arguments.error(f"no client {', '.join(sorted(unknown))}; there are {known}")
    urls = [str(url).rstrip("/") + "/" for url in (given.url, *given.others)]
    names = [*given.name, *urls[len(given.name) :]]
    table = Table(names[: len(urls)])
    for url, column in zip(urls, table.columns, strict=True):
        print(f"running every client through {url}", file=sys.stderr, flush=True)
        fill(table, Target(url, given.user, given.password), column, [other for other in urls if other != url], given)
    print(table.text(), end="", flush=True)
    if given.out:
        given.out.write_text(table.text())
    return table.exit_code


if __name__ == "__main__":
    sys.exit(main())
