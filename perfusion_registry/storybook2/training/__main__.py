"""The second Storybook's training: `python -m perfusion_registry.storybook2.training WORK COMMAND`.

    freeze [--set X.Y=Z]    keep the code and the plan as they are now in WORK
    resume [STAGE ...]      `run`, or these stages, from the frozen code in the background; the first act of
                            each day
    run                     all stages in their order, each from where it was stopped
    stage NAME ...          single stages: vocabulary draw autoencoder recogniser encode denoiser
                            denoiser-fall decoder clip segmenter; several may run beside each other
    trial NAME [--set ...]  an autoencoder of another layout, beside the chosen one, in WORK/trials/NAME
    pause -- COMMAND        run COMMAND while the training holds still
    measure                 what the base draws of what it is asked for, answered by the recogniser
    sheet                   draw the fixed prompts with the averaged denoiser
    export TARGET           write the diffusers folder
    save-weights FOLDER     the unfinished state in parts under 16 MiB; load-weights FOLDER brings it back
    lent --out FOLDER       train for some minutes on a lent machine and give the state back in parts

WORK is a folder, or `-` for the user's cache folder. The log is WORK/log.txt.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training import decoding, painting, reading, stages
from perfusion_registry.storybook2.training.lent import lent
from perfusion_registry.storybook2.training.measuring import measure
from perfusion_registry.storybook2.training.pause import paused
from perfusion_registry.storybook2.training.plan import Plan, changed, read_plan, write_plan
from perfusion_registry.storybook2.training.producing import work_ahead
from perfusion_registry.storybook2.training.state import load_state, save_state
from perfusion_registry.storybook2.training.work import Work, default_work, detach, freeze, give_way

STAGES: dict[str, Callable[[Work, Plan], None]] = {
    "vocabulary": stages.vocabulary,
    "draw": stages.draw,
    "autoencoder": stages.autoencoder,
    "recogniser": reading.recogniser,
    "encode": painting.encode,
    "denoiser": painting.denoiser,
    "denoiser-fall": painting.denoiser_fall,
    "decoder": decoding.decoder,
    "clip": reading.clip,
    "segmenter": reading.segmenter,
}
RUN = ("vocabulary", "draw", "autoencoder", "recogniser", "encode", "denoiser")


def run(work: Work, names: Sequence[str]) -> None:
    """Run stages in the order given. Each runs once at a time in a work folder; other stages may run beside
    it."""
    plan = read_plan(work)
    give_way()
    torch.set_num_threads(plan.machine.threads)
    for name in names:
        with work.alone(name):
            work.log(f"stage {name}")
            STAGES[name](work, plan)
    work.log("all stages done: " + " ".join(names))


def trial(work: Work, name: str, plan: Plan) -> None:
    """Train an autoencoder of its own beside the chosen one, on one thread."""
    give_way()
    torch.set_num_threads(1)
    with work.alone(f"trial-{name}"):
        target = work.root / "trials" / name
        target.parent.mkdir(exist_ok=True)
        stages.autoencoder(work, plan, name=f"trial-{name}", target=target)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    main = argparse.ArgumentParser(
        prog="python -m perfusion_registry.storybook2.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("work", help="the work folder, or - for the user's cache folder")
    commands = main.add_subparsers(dest="command", required=True)
    for name in ("freeze", "run", "resume", "measure", "sheet"):
        commands.add_parser(name)
    commands.choices["freeze"].add_argument("--set", nargs="*", action="extend", default=[], metavar="X.Y=Z")
    commands.choices["resume"].add_argument("names", nargs="*", metavar="STAGE", help=" ".join(STAGES))
    one = commands.add_parser("stage")
    one.add_argument("names", nargs="+", choices=tuple(STAGES))
    one = commands.add_parser("trial")
    one.add_argument("name")
    one.add_argument("--set", nargs="*", action="extend", default=[], metavar="X.Y=Z")
    one = commands.add_parser("pause")
    one.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    one = commands.add_parser("export")
    one.add_argument("target", type=Path)
    one.add_argument("--deviation", type=float, help="of the averages' profile, as a share of the training")
    for name in ("save-weights", "load-weights"):
        commands.add_parser(name).add_argument("folder", type=Path)
    one = commands.add_parser("lent")
    one.add_argument("--state", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seconds", type=float, default=540.0)
    one.add_argument("--reserve", type=float, default=60.0)
    one = commands.add_parser("produce")
    for name in ("worker", "workers", "ahead"):
        one.add_argument(f"--{name}", type=int, required=True)
    return main


def act(arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit status."""
    work = Work(default_work() if arguments.work == "-" else Path(arguments.work).resolve())
    plan = read_plan(work)
    match arguments.command:
        case "freeze":
            write_plan(work, changed(plan, arguments.set))
            print(f"frozen: {freeze(work)}")
        case "resume":
            unknown = [name for name in arguments.names if name not in STAGES]
            if unknown:
                raise PerfError(f"no stage {unknown[0]}", hint="stages: " + " ".join(STAGES))
            for name in arguments.names or RUN:
                if work.is_running(name):
                    raise PerfError(f"the stage {name} already runs", where=str(work.root / f"{name}.lock"))
            process = detach(work, ["stage", *arguments.names] if arguments.names else ["run"])
            print(f"process {process}; it tells in {work.root / 'log.txt'}")
        case "run":
            run(work, RUN)
        case "stage":
            run(work, arguments.names)
        case "trial":
            trial(work, arguments.name, changed(plan, arguments.set))
        case "pause":
            command = [a for k, a in enumerate(arguments.arguments) if k or a != "--"]
            if not command:
                raise PerfError("pause needs a command to run", hint="pause -- COMMAND ...")
            with paused(work.pause):
                return subprocess.run(command, check=False).returncode
        case "measure":
            give_way()
            torch.set_num_threads(plan.machine.threads)
            measure(work, plan)
        case "sheet":
            painting.sheet_of_checkpoint(work, plan)
        case "export":
            painting.export(work, read_plan(work), arguments.target, deviation=arguments.deviation)
        case "save-weights":
            save_state(work, arguments.folder)
        case "load-weights":
            load_state(arguments.folder, work)
        case "lent":
            lent(
                work,
                state=arguments.state,
                out=arguments.out,
                seconds=arguments.seconds,
                reserve=arguments.reserve,
            )
        case "produce":  # as nice as the training that starts it
            work_ahead(
                work,
                count=plan.budgets.shard,
                ahead=arguments.ahead,
                most=plan.admission.most,
                worker=arguments.worker,
                workers=arguments.workers,
            )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        return act(parser().parse_args(arguments))
    except PerfError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
