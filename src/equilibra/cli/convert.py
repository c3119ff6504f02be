"""`equilibra convert`: files of other programs to ours."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli.checks import one_of, present, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

NAME = "convert"
EXAMPLE = (
    "Examples:\n\nequilibra convert dig-protein checkpoint-520k.pth -o dig-protein/\n\n"
    "equilibra convert dig-features 1ake.pkl -o features/\n\n"
    "equilibra convert crystals train.csv --deduplicate --without test.csv -o unique.csv\n\n"
    "equilibra convert crystals unique.csv --add band-gap:megnet -o gaps.csv"
)

CONVERTERS = {
    "dig-protein": "equilibra.systems.protein.dig_release.checkpoint",
    "dig-features": "equilibra.systems.protein.dig_release.feature_pickle",
}
"""Modules by what they convert; imported when asked for."""

CRYSTALS = "crystals"
"""What converts files of structures to one table."""


def run(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="What to convert: dig-protein (the published weights of Distributional Graphormer for proteins), dig-features (its pickles of AlphaFold 2 features), crystals (files of structures, to one table).",
            metavar="KIND",
        ),
    ],
    sources: Annotated[
        list[Path],
        typer.Argument(help="The file to convert; of crystals one or several. Nothing in it is executed.", metavar="FILE"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to; of crystals the file, .csv or .extxyz.")] = Path(
        "converted"
    ),
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Of crystals: keep one structure of each group of duplicates; needs pymatgen.")
    ] = False,
    without: Annotated[
        list[Path] | None,
        typer.Option("--without", help="Of crystals: leave out structures that this file has too; repeat it for several."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="NAME",
            help="Of crystals: add this property of each structure as a column, such as band-gap:megnet, band-gap:xtb or energy:tight-binding, to train with "
            "it as a label; repeat it for several.",
        ),
    ] = None,
) -> None:
    """Convert published weights to a model folder, pickled features to arrays, or files of crystal structures to one table."""
    one_of("kind of file", kind, (*CONVERTERS, CRYSTALS))
    if kind == CRYSTALS:
        from equilibra.cli.crystal_conversion import convert_crystals

        convert_crystals(ctx, sources, out, deduplicate=deduplicate, without=without or [], add=add or [])
        return
    if len(sources) != 1 or deduplicate or without or add:
        raise InputError(
            f"convert: '{kind}' takes one file, and neither --deduplicate nor --without nor --add, which are for crystals"
        )
    source = sources[0]
    present(source)
    writable(out)

    import importlib
    import importlib.util

    from equilibra.errors import MissingDependencyError

    package = CONVERTERS[kind].rpartition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise MissingDependencyError(f"'{kind}': this installation has no {package}; install the whole of equilibra")
    module = importlib.import_module(CONVERTERS[kind])
    if kind == "dig-protein":
        model = module.convert_checkpoint(source, out)
        say(ctx, f"{model.name}: {model.parameters():,} weights in '{out}', sha256 {model.sha256[:12]}")
    else:
        files = module.convert_features(source, out)
        say(ctx, f"in '{out}': {', '.join(file.name for file in files)}")
