"""The program `equilibra`: one verb per file; each parses, calls the public function of the same name and prints a summary.

Exit codes: 0 done, 1 a failure, 2 bad input, 130 interrupted. Output that nobody reads any more, as after `| head`, ends a command with 1 and no message.
"""

import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from equilibra.cli import (
    convert,
    density,
    density_map,
    evaluate,
    fine_tune,
    free_energy,
    interpolate,
    models,
    report,
    sample,
    simulate,
    train,
    verify,
)
from equilibra.cli.console import Settings, complain, unread
from equilibra.errors import EquilibraError

RESUMABLE = {"sample", "simulate", "train", "fine-tune", "density"}
INTERRUPTED = 130


class Verbs(TyperGroup):
    """Turns errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            verb = ctx.invoked_subcommand or ""
            caught: BaseException = stop
            code, sentence = INTERRUPTED, "interrupted"
            if verb in RESUMABLE:
                sentence += f"; what is finished is kept: repeat the same `equilibra {verb}` command to go on"
        except EquilibraError as error:
            caught, code, sentence = error, error.exit_code, str(error)
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("typer", "click"):
                raise  # usage errors and exits speak for themselves
            if isinstance(error, BrokenPipeError) and unread():
                raise  # `| head` has its lines: typer ends the program without a word
            caught, code = error, EquilibraError.exit_code
            sentence = f"unexpected {type(error).__name__}: {error}; `equilibra --debug ...` shows where; please report it"
        if isinstance(ctx.obj, Settings) and ctx.obj.debug:
            traceback.print_exception(caught)
        complain(sentence)
        raise typer.Exit(code)


app = typer.Typer(
    cls=Verbs,
    name="equilibra",
    help="Equilibrium distributions of molecular systems: from a molecule's name to its conformations in the proportions of nature.",
    epilog="Example:\n\nequilibra sample molecule ACE-ALA-NME -n 1000 --seed 0 -o out/",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from equilibra import __version__

        typer.echo(f"equilibra {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more of what is done.")] = False,
) -> None:
    """Options that come before the verb."""
    ctx.obj = Settings(debug=debug, quiet=quiet, verbose=verbose)
    if verbose or not quiet:
        import logging

        logging.basicConfig(format="equilibra: %(message)s", level=logging.INFO if verbose else logging.WARNING)


for verb in (
    sample,
    train,
    fine_tune,
    simulate,
    evaluate,
    density,
    density_map,
    free_energy,
    interpolate,
    verify,
    convert,
    models,
    report,
):
    app.command(verb.NAME, cls=getattr(verb, "Command", None), epilog=verb.EXAMPLE)(verb.run)


def main() -> None:
    """Runs the program."""
    app(prog_name="equilibra")


if __name__ == "__main__":
    main()
