"""What people see: summaries on stdout; errors, hints and progress on stderr. Files are for programs."""

import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer


@dataclass(frozen=True)
class Settings:
    """The options before the verb."""

    debug: bool = False
    quiet: bool = False
    verbose: bool = False


def settings(ctx: typer.Context) -> Settings:
    """Returns the options before the verb."""
    found = ctx.find_root().obj
    return found if isinstance(found, Settings) else Settings()


def say(ctx: typer.Context, text: str = "") -> None:
    """Writes a line to stdout, unless told to be quiet."""
    if not settings(ctx).quiet:
        typer.echo(text)


def complain(text: str) -> None:
    """Writes a problem to stderr, on one line."""
    typer.echo(f"equilibra: {' '.join(text.split())}", err=True)


def unread() -> bool:
    """Tells whether stdout or stderr is a pipe that is closed at its other end; a `BrokenPipeError` is then no defect."""
    if not hasattr(select, "poll"):
        return True  # Windows: there is no asking
    outputs = select.poll()
    for descriptor in (1, 2):
        outputs.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in outputs.poll(0))


def table(ctx: typer.Context, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Writes a table to stdout: the first column to the left, the others to the right."""
    if settings(ctx).quiet:
        return
    if title is not None:
        typer.echo(title)

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # one measure for everyone: a pipe has no width, and a table cut at 80 columns is of no use there
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        shown.add_column(Text(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    console.print(shown)


class Bar:
    """A progress bar on stderr."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Shows how far it is, with a note at the end of the line."""
        if self._progress is not None:
            change = {} if total is None else {"total": total}
            self._progress.update(self._task, completed=done, note=note, **change)

    def count(self, done: int, total: int) -> None:
        """Shows how many things are done, and of how many."""
        self.update(done, total=total, note=f"{done:,}/{total:,}")


@contextmanager
def bar(ctx: typer.Context, label: str, total: float) -> Iterator[Bar]:
    """Shows a progress bar while the block runs; nothing if quiet, or if stderr is no terminal."""
    if settings(ctx).quiet or not sys.stderr.isatty():
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress, progress.add_task(escape(label), total=total, note=""))
