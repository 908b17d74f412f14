"""The command `permit-router demo`."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from litellm_plugin.cli.demo import report
from litellm_plugin.cli.demo.callers import check_clients
from litellm_plugin.cli.demo.configuration import read_configuration
from litellm_plugin.cli.demo.decisions import Decisions, wait_for_decisions
from litellm_plugin.cli.demo.play import differences, play_prompt, play_scenes
from litellm_plugin.cli.demo.prompts import UserPrompt, read_prompts
from litellm_plugin.cli.demo.scenes import SCENES, TOLD
from litellm_plugin.cli.demo.stage import Stage, open_stage
from litellm_plugin.cli.demo.tenants import TENANTS, check_tenants
from litellm_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LOG: Final = Path(".demo", "decisions.jsonl")
# The table's width where there is no terminal to ask, such as in CI.
_PLAIN_WIDTH: Final = 170
_OK: Final = 200
_DIFFERENT: Final = 1
_MISUSED: Final = 2
_INTERRUPTED: Final = 130
_TERMINATED: Final = 143


def demo(
    config: Annotated[
        Path, typer.Option(help="LiteLLM's configuration; its providers are simulated.")
    ] = Path("config.example.yaml"),
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Play these prompts instead of the scenes: one a line, as text or as JSON objects."
        ),
    ] = None,
    serve: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--serve", help="Start everything and leave it running until Ctrl-C.")
    ] = False,
) -> None:
    """Runs a real LiteLLM Proxy behind a policy gateway and shows what a permit allows, and what not.

    Nothing leaves this machine: the providers are simulated. Exit code 0: all came as expected; 1: something
    came otherwise, or did not start; 2: the configuration or the prompts file is wrong.
    """
    console = _console()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(console, config, prompts, serve=serve)
    except ConfigurationError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        code = _MISUSED
    except RuntimeError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        code = _DIFFERENT
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped.")
        code = _INTERRUPTED
    raise typer.Exit(code)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Unwinds the stack, so that everything is stopped on SIGTERM too."""
    sys.exit(_TERMINATED)


def _run(console: Console, config: Path, prompts: Path | None, *, serve: bool) -> int:
    if serve and prompts is not None:
        raise ConfigurationError("--serve and --prompts: one of them is expected, not both")
    configuration = read_configuration(config)
    check_tenants(configuration.endpoints, configuration.classifications)
    asked = None
    if prompts is not None:
        asked = read_prompts(
            prompts, models=configuration.groups, classifications=configuration.classifications
        )
    elif not serve:
        check_clients()
    log_path = _new_log()
    console.print(
        "LiteLLM Proxy and the permit router are real; the providers are simulated, nothing leaves this machine."
    )
    started_s = time.monotonic()
    with console.status("starting") as status:

        def say(what: str) -> None:
            status.update(what)
            console.print(f"[dim]{time.monotonic() - started_s:5.1f} s[/]  {what}")

        with open_stage(configuration, log_path, say) as stage:
            if serve:
                status.stop()
                return _serve(console, stage)
            if asked is not None:
                return _play_prompts(console, stage, asked, log_path)
            status.update("playing the scenes")
            return _play_scenes(console, stage, log_path)


def _new_log() -> Path:
    path = _LOG.resolve()
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _play_scenes(console: Console, stage: Stage, log_path: Path) -> int:
    played, ledger = play_scenes(stage, SCENES)
    answered = [each.answer.decision_id or "" for each in played if each.answer.status == _OK]
    decisions = wait_for_decisions(log_path, answered)
    judgement = ledger.judge(stage.sinks)
    found = {each.scene.name: list(differences(each, decisions)) for each in played}
    rows = [report.scene_row(each, is_good=not found[each.scene.name]) for each in played]
    console.print(report.table(rows, decisions, stage.configuration.endpoints))
    for name, faults in found.items():
        for fault in faults:
            console.print(f"[bold red]✗ {escape(name)}[/]: {escape(fault)}")
    for request in judgement.out_of_set:
        console.print(f"[bold red]✗ arrived at {request.endpoint} without a permit for it[/]: {request.path}")
    told = next((each.answer.decision_id for each in played if each.scene.name == TOLD), None)
    _tell(console, decisions, told or "")
    console.print()
    good = sum(not faults for faults in found.values())
    wanted = sum(len(scene.expected.arrivals) for scene in SCENES)
    console.print(
        f"[bold]{good} of {len(played)} scenes as expected[/]; {judgement.arrivals} arrivals at providers "
        f"({wanted} expected), [bold]{len(judgement.out_of_set)} outside their permit[/]."
    )
    is_good = (
        good == len(played)
        and judgement.arrivals == wanted
        and not judgement.out_of_set
        and not decisions.chain_faults
    )
    return _end(console, decisions, is_good=is_good)


def _play_prompts(console: Console, stage: Stage, prompts: list[UserPrompt], log_path: Path) -> int:
    played = []
    for prompt in prompts:
        played.append(play_prompt(stage, prompt))
        console.print(f"[dim]line {prompt.line}[/]  {escape(played[-1].answer.text[:200])}", soft_wrap=True)
    answered = [each.answer.decision_id or "" for each in played if each.answer.status == _OK]
    decisions = wait_for_decisions(log_path, answered)
    rows = [report.prompt_row(each) for each in played]
    console.print(report.table(rows, decisions, stage.configuration.endpoints))
    first = next((each.answer.decision_id for each in played if each.answer.decision_id), None)
    _tell(console, decisions, first or "")
    arrivals = sum(len(each.arrivals) for each in played)
    outside = sum(len(each.outside) for each in played)
    console.print(
        f"\n[bold]{len(answered)} of {len(played)} prompts answered[/]; {arrivals} arrivals at providers, "
        f"[bold]{outside} outside their permit[/]."
    )
    is_good = all(row.is_good for row in rows) and not decisions.chain_faults
    return _end(console, decisions, is_good=is_good)


def _tell(console: Console, decisions: Decisions, decision_id: str) -> None:
    """Tells one decision in plain words, as an example of what the log holds."""
    decision = decisions.by_id.get(decision_id)
    if decision is None or decision["rule"] is None:
        return
    console.print("\n[bold]One line of the decision log, in words[/]")
    for sentence in report.explanation(decision):
        console.print(escape(sentence), soft_wrap=True)


def _end(console: Console, decisions: Decisions, *, is_good: bool) -> int:
    chain = "its hash chain is unbroken" if not decisions.chain_faults else "ITS HASH CHAIN IS BROKEN"
    console.print(f"The decision log is {_LOG} ({decisions.lines} records, {chain}).", soft_wrap=True)
    for fault in decisions.chain_faults:
        console.print(f"[bold red]✗ decision log[/]: {escape(fault)}")
    console.print("[bold green]PASSED[/]" if is_good else "[bold red]FAILED[/]")
    return 0 if is_good else _DIFFERENT


def _serve(console: Console, stage: Stage) -> int:
    for line in _instructions(stage):
        # Not marked up: escaping doubles a backslash at the end of a line, and these are for a shell.
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    # Returns with KeyboardInterrupt only.
    threading.Event().wait()
    return 0


def _instructions(stage: Stage) -> Iterator[str]:
    yield ""
    yield "Callers (the API key is the tenant's; providers are simulated):"
    width = max(map(len, TENANTS))
    for key, rule in TENANTS.items():
        declared = ", ".join((rule.data_classification, *rule.may_classify))
        yield f"  {key:{width}}  {rule.tenant_tier:10}  {declared:16}  {' '.join(rule.endpoints)}"
    yield f"Models: {', '.join(stage.configuration.groups)}"
    yield ""
    yield "Paste into another shell:"
    yield ""
    yield f"  export OPENAI_BASE_URL={stage.gateway_url}/v1 OPENAI_API_KEY=demo-acme"
    yield f"  export ANTHROPIC_BASE_URL={stage.gateway_url} ANTHROPIC_API_KEY=demo-acme"
    yield ""
    message = '{"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}'
    yield f"  curl -i {stage.gateway_url}/v1/chat/completions -H 'authorization: Bearer demo-acme' \\"
    yield f"    -H 'content-type: application/json' -d '{message}'"
    yield ""
    yield "Past the gateway, with LiteLLM's own master key and without a permit:"
    yield ""
    yield f"  curl -i {stage.proxy.url}/v1/chat/completions -H 'authorization: Bearer {stage.proxy.master_key}' \\"
    yield f"    -H 'content-type: application/json' -d '{message}'"
    yield ""
    yield f"Every decision appears in {_LOG}:  tail -f {_LOG}"
    yield "Ctrl-C stops everything."
