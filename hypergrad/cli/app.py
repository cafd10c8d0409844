"""The command line: reads arguments, calls one driver, turns errors into one line.

PyTorch, Hydra, pandas and matplotlib are imported by the commands that need them, so that help
answers at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hypergrad.cli import completion
from hypergrad.cli.errors import complain
from hypergrad.cli.malloc import keep_freed_memory
from hypergrad.cli.streams import Lost, OwnProcess
from hypergrad.version import __version__

__all__ = ["app", "main"]

FAILED, INTERRUPTED = 1, 130  # the exit codes of runs come from their drivers
RUNS = ("run", "improve", "baselines")  # what they print is on the disk as well

app = typer.Typer(
    name="hypergrad",
    help="Learn learning-rate, momentum and weight-decay schedules by hypergradients.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    help="List, download and check data sets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hydra overrides: seed=1, data=mnist, scale=smoke, method.batch_size=64 ...",
        autocompletion=completion.overrides,
    ),
]
Resume = Annotated[Path | None, typer.Option(help="Go on with the run in this directory.")]
RunDir = Annotated[
    Path | None,
    typer.Option(help="The run's directory; go on if this command has begun a run there."),
]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Resume with other threads or versions: last bits may differ."
    ),
]
Fork = Annotated[
    bool, typer.Option("--fork", help="With --resume: begin a new run from its checkpoint.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show minutes and memory, from a step tried here; run nothing."),
]
Cfg = Annotated[
    str | None, typer.Option(help="'job': show the composed configuration; run nothing.")
]
TrustModel = Annotated[
    bool,
    typer.Option("--trust-model", help="Import the run's own network, whoever made the run."),
]
Multirun = Annotated[
    bool, typer.Option("-m", "--multirun", help="Run every member of a sweep: seed=0,1,2.")
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hypergrad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Learn learning-rate, momentum and weight-decay schedules by hypergradients."""


@app.command()
def run(
    context: typer.Context,
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="quickstart, fig1, ...: a name in conf/experiment.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    overrides: Overrides = None,
    resume: Resume = None,
    run_dir: RunDir = None,
    accept_changes: AcceptChanges = False,
    fork: Fork = False,
    dry_run: DryRun = False,
    cfg: Cfg = None,
    multirun: Multirun = False,
    trust_model: TrustModel = False,
) -> int:
    """Run an experiment: hypergrad run fig1_mnist seed=1."""
    from hypergrad.cli import run_commands

    mode = run_commands.Mode(
        resume, dry_run, cfg, multirun, run_dir, accept_changes, fork, trust_model
    )
    example = "the experiment first, as in: hypergrad run quickstart seed=1"
    return run_commands.start(experiment, list(overrides or []), mode, context.obj, example)


@app.command()
def improve(
    context: typer.Context,
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="improve_digits, improve_mnist, or any other in conf/experiment.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    overrides: Overrides = None,
    resume: Resume = None,
    run_dir: RunDir = None,
    accept_changes: AcceptChanges = False,
    dry_run: DryRun = False,
    cfg: Cfg = None,
    multirun: Multirun = False,
    trust_model: TrustModel = False,
) -> int:
    """Improve a usual schedule, and confirm it on fresh seeds: hypergrad improve improve_digits."""
    from hypergrad.cli import run_commands

    mode = run_commands.Mode(
        resume, dry_run, cfg, multirun, run_dir, accept_changes, trust=trust_model
    )
    given = list(overrides or []) if resume else ["driver=improve", *(overrides or [])]
    example = "the experiment first, as in: hypergrad improve improve_digits seed=1"
    return run_commands.start(experiment, given, mode, context.obj, example)


@app.command()
def baselines(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            help="cifar10, mnist, svhn, digits, or mnist_cpu ...",
            metavar="DATA",
            autocompletion=completion.data_sets,
        ),
    ] = None,
    overrides: Overrides = None,
    search: Annotated[
        str | None,
        typer.Option(
            help="grid, random, random_space, hd (online descent), tpe, hyperband, or ours."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once, in processes.")] = None,
    ensemble: Annotated[
        str | None, typer.Option(help="Trials trained together: a number, or auto: measured.")
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="local, or ray: over the machines at RAY_ADDRESS.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with, or help, the search in this directory; it may grow."),
    ] = None,
    run_dir: RunDir = None,
    accept_changes: AcceptChanges = False,
    dry_run: DryRun = False,
    cfg: Cfg = None,
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="Run every member of a sweep.")
    ] = False,
    trust_model: TrustModel = False,
) -> int:
    """Search hand-set or random schedules: hypergrad baselines mnist --search random --jobs 2."""
    from hypergrad.cli import run_commands

    given = list(overrides or [])
    options = {
        "search": search,
        "jobs": jobs,
        "search.ensemble": ensemble,
        "executor": executor,
    }
    given += [f"{key}={value}" for key, value in options.items() if value is not None]
    named = data if data is None or "=" in data else f"baselines/{data}"
    mode = run_commands.Mode(
        resume, dry_run, cfg, multirun, run_dir, accept_changes, trust=trust_model
    )
    example = "the data set first, as in: hypergrad baselines mnist seed=1"
    return run_commands.start(named, given, mode, context.obj, example)


@app.command()
def plot(
    figures: Annotated[
        list[str] | None, typer.Argument(help="fig1, fig4, ...; default: every one with a run.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run directory; default: the newest finished one of the largest scale."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the drawn files; default: the run's figures/.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="png, pdf, svg, csv, or several: png,csv [png,pdf,csv]"),
    ] = None,
    outputs: Annotated[Path, typer.Option(help="Where runs are.")] = Path("outputs"),
) -> None:
    """Draw figures from logged runs."""
    from hypergrad.cli import plot_commands

    plot_commands.plot(figures or [], run, outputs, output, formats or [])


@app.command()
def table(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs of table1 or of its cells; default: as of plot."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="terminal, markdown, csv or latex.")
    ] = "terminal",
    outputs: Annotated[Path, typer.Option(help="Where runs are.")] = Path("outputs"),
) -> None:
    """Print Table 1 from finished runs."""
    from hypergrad.cli import plot_commands

    plot_commands.table(runs or [], outputs, form)


@app.command()
def runs(
    outputs: Annotated[Path, typer.Option(help="Where runs are.")] = Path("outputs"),
    last: Annotated[int | None, typer.Option(min=1, help="Only so many, the newest.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Only of this experiment.")] = None,
    data: Annotated[str | None, typer.Option(help="Only on this data set.")] = None,
    scale: Annotated[str | None, typer.Option(help="Only of this scale: full or smoke.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only finished, running, interrupted, failed, killed ...")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
) -> None:
    """List runs: data, scale, what was typed, time, status and headline result."""
    from hypergrad.cli import runs_command as listing

    only = listing.RunFilter(experiment, data, scale, status, last)
    listing.list_runs(outputs, only, form)


@app.command()
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run directories; default: the finished ones.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File; default: report.html in outputs.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Rewrite it every few seconds while a run goes on.")
    ] = False,
    last: Annotated[int, typer.Option(min=1, help="So many of the newest, if none is named.")] = 10,
    outputs: Annotated[Path, typer.Option(help="Where runs are.")] = Path("outputs"),
) -> None:
    """Write an HTML page on runs that needs nothing else: hypergrad report RUN."""
    from hypergrad.cli import report_command

    report_command.report(runs or [], outputs, output, last, follow=follow)


@app.command()
def doctor(
    run: Annotated[Path, typer.Argument(help="Run directory, as `hypergrad runs` lists them.")],
) -> int:
    """Say what is damaged in a run directory, and from where it can be resumed."""
    from hypergrad.cli import doctor_command

    return doctor_command.tell(run)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run directory, as `hypergrad runs` lists them.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSON file; default: stdout.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Which seed's; default: the best by validation accuracy.")
    ] = None,
) -> None:
    """Write a learned schedule to a file that any script can load: hypergrad export RUN -o FILE."""
    from hypergrad.cli import export_command

    export_command.export(run, output, seed)


@app.command()
def confirm(
    run: Annotated[Path, typer.Argument(help="Run directory, as `hypergrad runs` lists them.")],
    overrides: Overrides = None,
    horizon: Annotated[
        str, typer.Option(help="5x: so many times as long; or epochs, as in 20.")
    ] = "1x",
    trainings: Annotated[int, typer.Option(min=2, help="On fresh seeds, with each schedule.")] = 5,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSON file of the schedule, with this.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Which seed's; default: the best by validation accuracy.")
    ] = None,
    trust_model: TrustModel = False,
) -> None:
    """Train with a run's schedule on fresh seeds, longer or elsewhere: confirm RUN --horizon 5x."""
    from hypergrad.cli import confirm_command

    given = run, list(overrides or []), horizon, trainings, output, seed, trust_model
    confirm_command.confirm_schedule(*given)


def _named(experiment: str, overrides: list[str] | None) -> tuple[str, list[str]]:
    """The experiment and what is typed for it; the first word may be a setting already."""
    if "=" in experiment:
        return "from_zero", [experiment, *(overrides or [])]
    return experiment, list(overrides or [])


@app.command()
def plan(
    experiment: Annotated[
        str,
        typer.Argument(help="A name in conf/experiment.", autocompletion=completion.experiments),
    ] = "from_zero",
    overrides: Overrides = None,
) -> int:
    """Tell what a run takes in every mode: minutes, from a probe of seconds, and memory."""
    from hypergrad.cli import plan_command

    return plan_command.show_plan(*_named(experiment, overrides))


@app.command()
def check(
    experiment: Annotated[
        str, typer.Argument(help="Whose model and data.", autocompletion=completion.experiments)
    ] = "from_zero",
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=2, help="Inner steps of every training.")] = 20,
) -> int:
    """Compare the configured mode's hypergradients with differences of ordinary trainings.

    On this machine, in float64: forward mode, or reverse mode with method=unshared, against the
    plain network trained by torch.optim with every value a little larger and smaller. Then the
    run's own precision against float64.
    """
    from hypergrad.cli import run_commands

    return run_commands.check(*_named(experiment, overrides), steps)


@data_app.command("list")
def data_list(
    root: Annotated[Path | None, typer.Option(help="Data root; default: $HYPERGRAD_DATA.")] = None,
) -> None:
    """List the data sets and where they are."""
    from hypergrad.cli import list_commands as listing

    listing.list_data(root)


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="mnist, svhn or cifar10.")],
    root: Annotated[Path | None, typer.Option(help="Data root; default: $HYPERGRAD_DATA.")] = None,
) -> None:
    """Download a data set, checksums verified."""
    from hypergrad.data import download

    print(f"{name}: {download(name, root)}")


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A name of `hypergrad data list`.")],
    root: Annotated[Path | None, typer.Option(help="Data root, or the folder of images.")] = None,
) -> None:
    """Verify the files of a data set."""
    from hypergrad.data import check

    print(check(name, root))


def main() -> None:
    """Run the command line; an error is one line on stderr (HYDRA_FULL_ERROR=1 shows it all)."""
    if os.environ.get("HYPERGRAD_KEEP_MEMORY") != "0":
        keep_freed_memory()
    process = OwnProcess.of_this()
    try:
        _check_started_once()
        code = app(sys.argv[1:], "hypergrad", obj=sys.argv, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:  # a library may have made one of its own of Ctrl-C
        code = INTERRUPTED if process.stopped else complain(error)
    process.end()
    sys.exit(_code_of_output(code or 0, process.lost))


def _code_of_output(code: int, lost: Lost) -> int:
    """The exit code, where stdout could not take everything; a run is on the disk all the same."""
    if code or lost.error is None or lost.by_reader:
        return code
    what = f"hypergrad: stdout cannot be written ({lost.error.strerror})"
    print(what, file=sys.stderr)
    shows = any(text == "--dry-run" or text.startswith("--cfg") for text in sys.argv)
    return 0 if sys.argv[1:2] and sys.argv[1] in RUNS and not shows else FAILED


def _check_started_once() -> None:
    """Refuse what torchrun starts several times: each process would do the same."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes and not (processes.isdecimal() and processes.isascii()):
        raise ValueError(f"WORLD_SIZE={processes}: no number of processes; unset it")
    if processes and int(processes[:9]) > 1:
        raise ValueError(
            f"WORLD_SIZE={processes}: each of {processes} processes would do the same: start it "
            "once, without torchrun; jobs=N shares trials and members among processes"
        )
