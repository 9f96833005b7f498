#!/usr/bin/env python3
"""Writes pages of the PostgreSQL manual as CSV (path, title, chapter, html) to standard output.

usage: corpus.py FOLDER SELECTION

FOLDER is the HTML manual of the distribution's package. SELECTION is "default" (about 150 pages), "few" (the pages that
the demo's questions need, and some that they do not), a number of pages, or "all".
"""

import csv
import fnmatch
import html
import pathlib
import re
import sys

FEW = [
    "indexes-partial", "routine-vacuuming", "transaction-iso", "backup-dump", "indexes-intro", "tutorial-join",
    "textsearch-intro", "sql-vacuum", "continuous-archiving", "ddl-default",
]
DEFAULT = FEW + [
    "tutorial*", "queries*", "indexes*", "textsearch*", "mvcc*", "transaction-iso", "explicit-locking", "backup*",
    "continuous-archiving", "ddl*", "dml*", "datatype", "datatype-boolean", "datatype-character", "datatype-datetime",
    "datatype-enum", "datatype-json", "datatype-numeric", "datatype-uuid", "arrays", "rangetypes", "functions-aggregate",
    "functions-conditional", "functions-matching", "functions-subquery", "functions-window", "performance-tips",
    "using-explain", "planner-stats", "explicit-joins", "populate", "non-durability", "routine-*", "maintenance",
    "logfile-maintenance", "high-availability", "different-replication-solutions", "warm-standby*", "hot-standby",
    "parallel-query", "how-parallel-query-works", "parallel-plans", "user-manag", "role-*", "database-roles",
    "manage-ag-*", "wal-*", "monitoring-locks", "locking-indexes", "applevel-consistency", "triggers",
    "trigger-definition", "rules-views", "plpgsql-overview", "sql-createindex", "sql-createtable", "sql-vacuum",
    "sql-analyze", "sql-reindex", "sql-explain", "sql-select", "sql-insert", "sql-update", "sql-delete", "sql-copy",
    "sql-begin", "sql-createview", "sql-creatematerializedview",
]
# Tables of contents and indexes of the book hold no prose.
NOT_PAGES = {"index", "bookindex", "biblio", "legalnotice"}


def select(folder, selection):
    names = sorted(path.stem for path in folder.glob("*.html") if path.stem not in NOT_PAGES)
    if selection == "all":
        return names
    patterns = FEW if selection == "few" else DEFAULT
    chosen = dict.fromkeys(name for pattern in patterns for name in fnmatch.filter(names, pattern))
    if not selection.isdigit():
        return list(chosen)
    chosen.update(dict.fromkeys(names))
    return list(chosen)[: int(selection)]


def plain(fragment):
    text = html.unescape(re.sub(r"<[^>]*>", "", fragment))
    return " ".join(text.split())  # also turns no-break spaces into spaces


def page(path):
    source = path.read_text(encoding="utf-8", errors="replace")
    title = plain(re.search(r"<title>(.*?)</title>", source, re.DOTALL).group(1))
    header = re.search(r'<div class="navheader">.*?<hr />\s*</div>', source, re.DOTALL)
    footer = re.search(r'<div class="navfooter">.*(?=</body>)', source, re.DOTALL)
    up = re.search(r'<th width="60%" align="center">(.*?)</th>', header.group(), re.DOTALL) if header else None
    is_chapter = re.match(r"(Chapter|Appendix|Part)\b", title)
    chapter = title if is_chapter or not up else plain(up.group(1))
    # The links to the pages before and after are the site's, not the page's.
    for navigation in (footer, header):
        if navigation:
            source = source[: navigation.start()] + source[navigation.end() :]
    return [path.name, title, chapter, source]


def main():
    if len(sys.argv) != 3 or not re.fullmatch(r"default|few|all|[1-9][0-9]*", sys.argv[2]):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for name in select(folder, sys.argv[2]):
        writer.writerow(page(folder / f"{name}.html"))


if __name__ == "__main__":
    main()
