"""`phoropter doctor`: look whether watching works here."""

import sys

import typer

from runtime.commands.options import Device, HotBudget, Model, Pack, WarmBudget, announced, lens_device


def doctor(
    model: Model = None,
    pack: Pack = None,
    hot_budget: HotBudget = "512MiB",
    warm_budget: WarmBudget = "2GiB",
    device: Device = None,
) -> None:
    """Look whether watching works here: this machine, the model, the pack, and the three together.

    A line for each check: ok, warning or problem, what was found, and what to do. Exit code 2 if there is any problem.
    A model is never downloaded for this.

    \b
    Examples:
      phoropter doctor
      phoropter doctor --model google/gemma-3-4b-pt --pack PATH
      phoropter doctor --hot-budget 64MiB --warm-budget 0
    """
    from rich.console import Console

    from runtime.config import MonitorConfig, parse_bytes
    from runtime.display import print_findings
    from runtime.environment import Finding, examine_machine

    config = MonitorConfig(
        hot_budget_bytes=parse_bytes(hot_budget),
        warm_budget_bytes=parse_bytes(warm_budget),
        device=lens_device(device),
    )
    with announced("looking at everything ..."):
        findings = list(examine_machine(Console(force_terminal=sys.stdout.isatty())))
        if any(finding.status == "problem" for finding in findings):
            findings.append(
                Finding("pack, host", "warning", "not looked at", "mend the above, then type this again")
            )
        else:
            from runtime.doctor import examine

            findings += examine(model=model, pack=pack, config=config, device=device)
    print_findings(findings)
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(2)
