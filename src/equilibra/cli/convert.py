"""`equilibra convert`: files of other programs to ours."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli.checks import one_of, present, writable
from equilibra.cli.console import say

NAME = "convert"
EXAMPLE = (
    "Examples:\n\nequilibra convert dig-protein checkpoint-520k.pth -o dig-protein/\n\n"
    "equilibra convert dig-features 1ake.pkl -o features/"
)

CONVERTERS = {
    "dig-protein": "equilibra.systems.protein.dig_release.checkpoint",
    "dig-features": "equilibra.systems.protein.dig_release.feature_pickle",
}
"""Modules by what they convert; imported when asked for."""


def run(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="What to convert: dig-protein (the published weights of Distributional Graphormer for proteins), dig-features (its pickles of AlphaFold 2 features).",
            metavar="KIND",
        ),
    ],
    source: Annotated[Path, typer.Argument(help="The file to convert. Nothing in it is executed.", metavar="FILE")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("converted"),
) -> None:
    """Convert published weights to a model folder, or pickled features to arrays."""
    one_of("kind of file", kind, CONVERTERS)
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
