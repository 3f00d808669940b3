"""The commands that show models in the browser: demo, space."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fincompress.cli.use import SHIPPED
from fincompress.core.errors import InputError

DEMO_COLUMNS = ("macro F1", "change [95 %]", "size (MB)", "ms", "speed-up [95 %]", "sentences/s", "peak RSS (MB)")


def demo(
    model: Annotated[str | None, typer.Option(help="The variant or model folder that is shown first.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
) -> None:
    """Open the side-by-side demo in the browser: the teacher against any variant."""
    from fincompress.serving.demo import UPLOAD, build  # first, as it says that the demo's own extra is missing

    # isort: split
    from fincompress.core.params import current_pipeline, load_params
    from fincompress.core.variants import saved_variants
    from fincompress.report.results import Needs, load_results
    from fincompress.report.tables import COSTS
    from fincompress.serving.differences import differing
    from fincompress.serving.duel import Duel

    pipeline = current_pipeline()
    folders = {
        variant.name: variant.folder
        for variant in saved_variants(Path("models"), pipeline)
        if (variant.folder / "config.json").is_file()
    }
    reference = pipeline.reference
    if model is not None and Path(model).is_dir():
        folders[model] = Path(model)
    chosen = model or next(
        (name for name in (SHIPPED.name, *folders) if name in folders and name != reference), "models"
    )
    for name in (reference, chosen):
        if name not in folders:
            raise InputError(f"{name}: no model there; `dvc repro` makes it, or `dvc pull dvc.yaml` fetches it")
    try:
        results, figures = load_results(), sorted(Path("plots/figures").glob("f1_*.png"))
        columns = {title: COSTS[title] for title in DEMO_COLUMNS}
        rows = [[name, *(cell(results, name) for cell in columns.values())] for name in results.records]
        table = [["variant", *columns], *rows]
    except InputError as error:
        print(f"no benchmark tab: {error}", file=sys.stderr)
        table, figures = [], []
    may_show = load_params(Needs).report.sentences
    unlike = differing(Path("plots/tables/predictions.csv"), Path("data/test.csv"), reference) if may_show else {}
    page = build(Duel(folders, reference), chosen, table, figures, unlike)
    page.launch(server_name=host, server_port=port, allowed_paths=["plots/figures"], max_file_size=UPLOAD)


def space(
    out: Annotated[Path, typer.Argument(help="The new folder.")] = Path("hf_space"),
    model: Annotated[Path, typer.Option(help="The folder of a converted model.")] = SHIPPED,
) -> None:
    """Write a standalone folder with the demo and one small model, ready to be pushed as a Hugging Face Space."""
    from fincompress.serving.space import write_space

    print(f"{write_space(model, out)}: `pip install -r requirements.txt && python app.py` in it starts the demo")
