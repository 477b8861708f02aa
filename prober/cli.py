"""The command line: parse, call, print. Exit 0: fine; 1: a negative result; 2: wrong usage or configuration."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast, get_args

import click

from prober import __version__
from prober.commands.completion import completion
from prober.commands.note import note
from prober.commands.options import (
    CONTEXT,
    NEGATIVE,
    USAGE,
    DurationType,
    ListenType,
    ShardType,
    TimeType,
    WordType,
    complete_scopes,
    complete_targets,
    fail,
    or_exit,
    print_json,
    scope_words,
)
from prober.commands.page import page
from prober.commands.status import status
from prober.printable import printable
from prober.shard import SHARDS_MAX, Shard, part

if TYPE_CHECKING:
    from prober.app import Agent, Loaded
    from prober.config import Config, Problem, Settings
    from prober.judge.records import Scope


def _schema_words() -> Iterable[str]:
    from prober.config.schema import SchemaKind

    return get_args(SchemaKind)


def _kind_words() -> Iterable[str]:
    from prober.probes import PROBES

    return sorted(PROBES)


class _PipeClosed(Exception):
    """Whoever reads our output has gone."""


@contextmanager
def _heeding_pipes() -> Iterator[None]:
    """click and rich would each end with status 1 when a pipe is closed, before `main` hears of it."""
    try:
        yield
    except BrokenPipeError:
        raise _PipeClosed from None
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            raise _PipeClosed from None
        raise


class _Commands(click.Group):
    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _heeding_pipes():  # --help
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _heeding_pipes():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings=CONTEXT, no_args_is_help=True)
@click.version_option(__version__, "-V", "--version", message="prober %(version)s")
def cli() -> None:
    """Ping, resolve and fetch targets, judge what was seen, keep a ledger of outages, and export Prometheus metrics.

    \b
    prober run                         watch the shipped targets (North Korea)
    prober run my-targets.yml          watch your own
    prober check my-targets.yml        validate a file before the agent sees it
    prober probe https://example.org/  probe once, with every phase
    prober status                      is anything down now?
    prober outages                     what was unreachable, and from when to when
    prober page --data-dir data        the page of a ledger, without probing
    prober note "attack reported"      keep a remark from outside beside it
    prober report --format html        outages, availability, plots, in one file
    prober replay world.yml            let a scripted world pass
    """


for _command in (status, note, page, completion):
    cli.add_command(_command)


@cli.command(context_settings=CONTEXT, short_help="Watch targets until told to stop.")
@click.argument("targets", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file; all settings have defaults")
@click.option("--listen", type=ListenType(), help="address and port to serve on  [default: 127.0.0.1:9911]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="directory of the ledger  [default: data]")
@click.option("--blackbox", type=click.Path(path_type=Path), help="blackbox.yml: modules for /probe and checks")
@click.option("--allow", multiple=True, help="name, .suffix, prefix or `public` that /probe may probe: turns it on")
@click.option("--shard", type=ShardType(), help="watch this part of the entities: 1/4 is the first of four agents")
@click.option("--log-format", type=click.Choice(["logfmt", "json"]), help="[default: logfmt]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
@click.option("--plain", is_flag=True, help="log lines instead of the live table, also in a terminal")
def run(
    targets: tuple[Path, ...],
    config: Path | None,
    listen: Any,
    data_dir: Path | None,
    blackbox: Path | None,
    allow: tuple[str, ...],
    shard: Shard | None,
    log_format: str | None,
    log_level: str | None,
    plain: bool,
) -> None:
    """Watch the targets in TARGETS files (or those of the settings, or the shipped ones) until told to stop.

    Serves /metrics and the agent's state on --listen. SIGHUP or a POST to /-/reload reads the files again; SIGTERM
    and Ctrl-C end it cleanly. In a terminal it shows a live table, in a pipe it logs.

    With --blackbox (or blackbox: in the settings) it takes blackbox_exporter's place: alone if no targets are named,
    else beside its own checks. /probe serves what the settings or --allow let it probe.

    With --shard several agents divide the entities among them, each with a --listen and a --data-dir of its own. An
    entity is judged as a whole and so is never divided; `prober check --shards 4 FILES` shows who has how much.

    \b
    prober run my-targets.yml --data-dir /var/lib/prober
    prober run --config prober.yml --listen 127.0.0.1:9912 --plain
    prober run --blackbox blackbox.yml --allow .example.org
    """

    import asyncio

    from prober.app import Loaded
    from prober.blackbox.loaded import modules_of
    from prober.config import load, load_settings
    from prober.config.load import uncollected
    from prober.config.settings import allowing
    from prober.config.shares import cores
    from prober.web.webconfig import WebConfig, read_web_config

    def read(load: Callable[[Settings], Config] = load) -> Loaded:
        settings = load_settings(config)
        update: dict[str, Any] = {}
        if targets:
            update["targets"] = targets
        if listen is not None:
            update["listen"] = listen
        if data_dir is not None:
            update["data_dir"] = data_dir
        if blackbox is not None:
            update["blackbox"] = blackbox
        if allow:
            update["probe_endpoint"] = allowing(settings.probe_endpoint, allow)
        given = {"format": log_format, "level": log_level}
        update["log"] = settings.log.model_copy(update={key: value for key, value in given.items() if value})
        settings = settings.model_copy(update=update)
        if settings.blackbox is not None and "targets" not in settings.model_fields_set:
            settings = settings.model_copy(update={"targets": ()})  # blackbox_exporter has none either
        web_file = settings.web.config_file
        web = read_web_config(web_file) if web_file is not None else WebConfig()
        loaded = load(settings)
        if shard is not None:
            loaded = replace(loaded, entities=part(loaded.entities, shard))
        return Loaded(loaded, web, modules_of(settings, config))

    with uncollected():  # what is read and built before the agent runs stays as long as it does
        loaded = or_exit(partial(read, partial(load, cores=cores())))
        terminal = sys.stderr.isatty() and not plain
        asyncio.run(_run(loaded, read, terminal))


async def _run(loaded: Loaded, read: Callable[[Callable[[Settings], Config]], Loaded], terminal: bool) -> None:
    from prober.app import Agent
    from prober.logs import logging_to

    log = loaded.config.settings.log
    if not terminal:
        with logging_to(sys.stderr, log.format, log.level):
            await _run_agent(Agent(loaded, read))
        return

    import asyncio

    from rich.console import Console

    from prober.live import AboveTable, LiveTable

    console = Console(stderr=True)
    above = AboveTable(console)
    with logging_to(cast(TextIO, above), log.format, log.level):
        agent = Agent(loaded, read)
        table = LiveTable(agent.state, console, above, lambda: f"prober {__version__}  {' '.join(agent.urls)}")
        drawing = asyncio.create_task(table.run())
        try:
            await _run_agent(agent)
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)


async def _run_agent(agent: Agent) -> None:
    from prober.app import CannotStart

    try:
        await agent.run()
    except CannotStart as error:
        fail(str(error))


@cli.command(context_settings=CONTEXT, short_help="Validate files before the agent sees them.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--schema", type=WordType(_schema_words), help="print a JSON schema and end")
@click.option("--shards", type=click.IntRange(1, SHARDS_MAX), help="show what each of so many agents would watch")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def check(files: tuple[Path, ...], schema: Any, shards: int | None, as_json: bool) -> None:
    """Validate FILES: settings, targets, references and worlds, whatever they are called.

    Each problem is one line: file, line, key, what is wrong and what to do. Exit 0: all fine; 2: problems.

    \b
    prober check targets/north-korea.yml targets/references.yml
    prober check --schema targets > targets.schema.json   for an editor
    """
    if schema is not None:
        if files:
            raise click.UsageError("--schema prints a schema and takes no files")
        from prober.config import json_schema

        click.echo(json.dumps(json_schema(schema), indent=2, ensure_ascii=False))
        return
    if not files:
        raise click.UsageError("give at least one file to check, or --schema")
    from prober.config import check_files

    result = check_files(files)
    result = replace(result, problems=result.problems + tuple(_problems_of_web(result.summaries)))
    parts = _parts(result.summaries, shards) if shards is not None and not result.problems else []
    if as_json:
        problems = [
            {"file": p.file, "line": p.line, "key": p.key, "message": p.message, "code": p.code}
            for p in result.problems
        ]
        found = {"problems": problems, "files": [_summary_json(summary) for summary in result.summaries]}
        print_json(found | ({"shards": parts} if shards is not None else {}))
    else:
        for problem in result.problems:
            click.echo(str(problem), err=True)
        for summary in result.summaries:
            click.echo(printable(_summary_text(summary)))
            for remark in summary.remarks:
                click.echo(printable(f"{summary.file}: remark: {remark}"))
        for one in parts:
            counts = f"{one['entities']} entities, {one['targets']} targets, {one['checks']} checks"
            click.echo(f"shard {one['shard']}: {counts}" if one["entities"] else f"shard {one['shard']}: nothing")
    if result.problems:
        sys.exit(USAGE)


def _parts(summaries: Iterable[Any], shards: int) -> list[dict[str, Any]]:
    """What each of so many agents would watch of these files."""
    from prober.config import load, load_settings, load_targets

    entities = list(load_targets([Path(one.file) for one in summaries if one.kind == "targets"]))
    for one in summaries:
        if one.kind == "settings":
            entities += load(load_settings(Path(one.file))).entities
    found = []
    for number in range(1, shards + 1):
        mine = part(entities, Shard(number, shards))
        targets = [target for entity in mine for target in entity.targets]
        checks = sum(len(target.checks) for target in targets)
        found.append({"shard": f"{number}/{shards}", "entities": len(mine), "targets": len(targets), "checks": checks})
    return found


def _problems_of_web(summaries: Iterable[Any]) -> Iterator[Problem]:
    """What is wrong with the web.yml of each settings file that is fine itself."""
    from prober.config import ConfigError, load_settings

    for summary in summaries:
        if summary.kind == "settings" and (file := load_settings(Path(summary.file)).web.config_file) is not None:
            from prober.web.webconfig import read_web_config

            try:
                read_web_config(file)
            except ConfigError as error:
                yield from error.problems


def _summary_json(summary: Any) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in type(summary).__slots__}


def _summary_text(summary: Any) -> str:
    if summary.kind == "blackbox":
        return f"{summary.file}: blackbox file, fine: {summary.modules} modules"
    what = "references" if summary.kind == "references" else "targets"
    whose = f" of {', '.join(summary.entities)}" if summary.entities else ""
    return (
        f"{summary.file}: {summary.kind} file, fine: {summary.targets} {what}{whose}, {summary.checks} checks, "
        f"{summary.packets_per_second:.2f} packets a second, at most {summary.busiest_prefix_packets_per_second:.2f} "
        f"to {summary.busiest_prefix or 'one prefix'}"
    )


@cli.command(context_settings=CONTEXT, short_help="Probe a target or a URL once, with every phase.")
@click.argument("what", metavar="TARGET_OR_URL", shell_complete=complete_targets)
@click.option("--kind", type=WordType(_kind_words), help="kind of probe, where the URL does not tell")
@click.option("--timeout", type=DurationType(), default=5.0, show_default="5s", help="give up after this long")
@click.option("--targets", "-t", multiple=True, type=click.Path(path_type=Path), help="targets file with TARGET")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file: contact, targets, opt-out list")
@click.option("--json", "as_json", is_flag=True, help="print JSON and nothing else")
def probe(
    what: str, kind: str | None, timeout: float, targets: tuple[Path, ...], config: Path | None, as_json: bool
) -> None:
    """Probe a configured target or a URL once, now, and show every phase.

    Exit 0: answered as expected; 1: not; 2: nothing that could be probed.

    \b
    prober probe https://example.org/
    prober probe icmp://192.0.2.1
    prober probe dns://192.0.2.53/example.org?type=SOA
    prober probe tcp://example.org:22 --json
    prober probe kcna.kp               a target of the shipped file
    """
    import asyncio

    from rich.console import Console

    from prober.config import load, load_settings
    from prober.duration import format_duration
    from prober.logs import logging_to
    from prober.once import NothingToProbe, checks_of, show
    from prober.once import as_json as to_json

    if timeout < 0.01:
        raise click.BadParameter(f"{format_duration(timeout)} is too short; write at least 10ms")

    def read() -> Config:
        settings = load_settings(config)
        return load(settings.model_copy(update={"targets": targets}) if targets else settings)

    loaded = or_exit(read)
    try:
        checks = checks_of(what, kind, timeout, loaded.entities)
    except NothingToProbe as error:
        fail(f"prober probe: {error}")
    with logging_to(sys.stderr, level="error"):
        observations = asyncio.run(_probe(checks, loaded.settings))
    if as_json:
        found = [to_json(observation) for observation in observations]
        print_json(found[0] if len(found) == 1 else found)
    else:
        for observation in observations:
            show(observation, Console(highlight=False))
    if not all(observation.success for observation in observations):
        sys.exit(NEGATIVE)


async def _probe(checks: list[Any], settings: Settings) -> list[Any]:
    from prober.app import open_io
    from prober.once import probe_once

    async with open_io(settings.contact, settings.opted_out.permits) as (io, _pinger):
        return await probe_once(checks, io)


@cli.command(context_settings=CONTEXT, short_help="List what was unreachable, with bounds.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="directory of the ledger  [default: the settings']")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file, for its data_dir")
@click.option("--since", type=TimeType(), help="not over by then: 2014-12-22, 2014-12-22T16:15:00Z, or 30d ago")
@click.option("--scope", type=WordType(scope_words), help="only this scope")
@click.option("--name", help="only this entity, network, site, target or target/check", shell_complete=complete_scopes)
@click.option("--ongoing", is_flag=True, help="only what is not over")
@click.option("--json", "to_json", is_flag=True, help="print a JSON list and nothing else")
@click.option("--csv", "to_csv", is_flag=True, help="print CSV and nothing else")
def outages(
    data_dir: Path | None,
    config: Path | None,
    since: float | None,
    scope: Scope | None,
    name: str | None,
    ongoing: bool,
    to_json: bool,
    to_csv: bool,
) -> None:
    """List the outages in the ledger, newest first, also while the agent runs; and the notes about that time.

    Exit 0: here they are, or there are none; 2: wrong usage, or no ledger.

    \b
    prober outages                             everything, as a table
    prober outages --since 30d --scope entity  the last month, by country
    prober outages --ongoing --json            what is not over, for a program
    prober outages --csv > outages.csv         for a spreadsheet
    """
    from rich.console import Console

    from prober.config import load_settings
    from prober.ledger import LedgerError, read_gaps, read_last_word, read_outages
    from prober.ledger.notes import notes_of
    from prober.ledger_cli import as_csv, print_outages

    if to_json and to_csv:
        raise click.UsageError("--json and --csv exclude each other: choose one")
    directory = data_dir if data_dir is not None else or_exit(lambda: load_settings(config)).data_dir
    try:
        found = read_outages(directory, since=since, scope=scope, name=name, ongoing=ongoing)
        gaps = [] if to_json or to_csv else read_gaps(directory, since=since)
        notes = [] if to_json or to_csv else notes_of(directory, since=since)
        now = time.time()
        word = None if to_json or to_csv else read_last_word(directory, now)
    except LedgerError as error:
        fail(f"prober outages: {error}")
    if to_json:
        print_json([outage.to_json() for outage in found])
    elif to_csv:
        click.echo(as_csv(found), nl=False)
    else:
        print_outages(found, gaps, Console(highlight=False), notes, None if word is None else word.now(now))


@cli.command(context_settings=CONTEXT, short_help="What one vantage or several say together.")
@click.option(
    "--ledger",
    "-l",
    "ledgers",
    multiple=True,
    type=click.Path(path_type=Path),
    help="ledger, or its directory; several: one of each vantage  [default: the settings']",
)
@click.option("--prometheus", metavar="URL", help="take the agents' exported bounds from this Prometheus")
@click.option("--basic-auth-file", type=click.Path(path_type=Path), help="user:password for it, on one line")
@click.option("--bearer-token-file", type=click.Path(path_type=Path), help="token for it, on one line")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file, for its data_dir")
@click.option(
    "--since",
    type=TimeType(),
    help="2014-12-19, 2014-12-19T16:15:00Z, or 30d ago  [default: the first word of any vantage; of Prometheus: 30d]",
)
@click.option("--until", type=TimeType(), help="likewise  [default: the last word of any vantage; of Prometheus: now]")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=WordType(scope_words),
    help="these scopes  [default: entity, network, site]",
)
@click.option("--name", help="only this entity, network, site, target or target/check", shell_complete=complete_scopes)
@click.option(
    "--clock-skew",
    type=DurationType(),
    default=0.0,
    help="how far clocks may be off: widens the bounds  [default: 0; of Prometheus: as measured]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html", "csv", "json"]),
    help="Markdown, a page in one file, or for programs  [default: md]",
)
@click.option("--json", "to_json", is_flag=True, help="as --format json")
def report(
    ledgers: tuple[Path, ...],
    prometheus: str | None,
    basic_auth_file: Path | None,
    bearer_token_file: Path | None,
    config: Path | None,
    since: float | None,
    until: float | None,
    scopes: tuple[Scope, ...],
    name: str | None,
    clock_skew: float,
    form: str | None,
    to_json: bool,
) -> None:
    """What all vantages say together: outages with the bounds that they agree on, who saw what, availability.

    An outage: nobody who can see reaches it. A peninsula: some do, some do not. An island: a vantage was cut off.
    Exit 0: here it is; 1: nothing was observed then, or nothing has that name; 2: wrong usage, or nothing to read.

    \b
    prober report                                the agent's own ledger
    prober report --ledger hanover --ledger tokyo --since 30d
    prober report --format html > report.html    with plots, to print or to send
    prober report --prometheus http://localhost:9090 --format csv
    """
    from prober.config import load_settings
    from prober.ledger import LedgerError
    from prober.report.command import NoSuchName, Question, of_ledgers, of_prometheus, rendered
    from prober.report.prometheus import PrometheusError, access

    if to_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} exclude each other: choose one")
    if prometheus is not None and (ledgers or config is not None):
        raise click.UsageError("--prometheus and ledgers exclude each other: choose one")
    if prometheus is None and (basic_auth_file is not None or bearer_token_file is not None):
        raise click.UsageError("--basic-auth-file and --bearer-token-file are for --prometheus: name its URL too")
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--until is not after --since")
    question = Question(since, until, scopes, name, clock_skew)
    try:
        if prometheus is not None:
            way = access(prometheus, basic_auth_file=basic_auth_file, bearer_token_file=bearer_token_file)
            found = of_prometheus(way, question)
        else:
            found = of_ledgers(ledgers or [or_exit(lambda: load_settings(config)).data_dir], question)
    except (LedgerError, PrometheusError) as error:
        fail(f"prober report: {error}")
    except NoSuchName as error:
        click.echo(f"prober report: {error}", err=True)
        sys.exit(NEGATIVE)
    click.echo(rendered(found, "json" if to_json else form or "md"), nl=False)
    if not found.observed:
        sys.exit(NEGATIVE)


@cli.command(context_settings=CONTEXT, short_help="Let a scripted world pass, and see what is found.")
@click.argument("world", type=click.Path(path_type=Path))
@click.option("--json", "to_json", is_flag=True, help="print JSON and nothing else: outages, fused, score")
@click.option("--score", "with_score", is_flag=True, help="compare what was found with what was true")
@click.option("--ledger", type=click.Path(path_type=Path), help="keep the ledger: a new file, or a directory for it")
@click.option("--openmetrics", type=click.Path(path_type=Path), help="write what Prometheus would hold, as text")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="other chances than the world's own")
def replay(
    world: Path, to_json: bool, with_score: bool, ledger: Path | None, openmetrics: Path | None, seed: int | None
) -> None:
    """Let a scripted WORLD pass in seconds: the real schedule, judgement and ledger on a virtual clock.

    Nothing is probed. The same seed gives the same result.

    \b
    prober replay targets/incidents/2014-12-north-korea.yml
    prober replay world.yml --score --seed 7      how good the judgement is on it
    prober replay world.yml --ledger kept         for prober outages, report
    prober replay world.yml --openmetrics om.txt  for promtool tsdb
    """
    from rich.console import Console

    from prober.config import load_world
    from prober.logs import logging_to
    from prober.replay.export import replay_into
    from prober.replay.fused import fused
    from prober.replay.run import ReplayFailed
    from prober.replay.score import score
    from prober.replay.timeline import show
    from prober.report.show import fused_json

    loaded = or_exit(lambda: load_world(world))
    with logging_to(sys.stderr, level="error"), _progress(loaded.title) as progress:  # agents' warnings are no trouble
        try:
            replayed = replay_into(loaded, seed=seed, ledger=ledger, openmetrics=openmetrics, progress=progress)
        except ReplayFailed as error:
            fail(f"prober replay: {error}")
    figures = score(replayed) if to_json or with_score else None
    if to_json:
        assert figures is not None
        found = [outage.to_json() for outage in replayed.outages()]
        scored = {scope: one.to_json() for scope, one in figures.items()}
        whole = {"outages": found, "fused": fused_json(fused(replayed)), "score": scored}
        print_json(whole)
    else:
        show(replayed, figures, Console(highlight=False))


@contextmanager
def _progress(title: str) -> Iterator[Callable[[float], None] | None]:
    """A progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(title).replace("[", r"\["), total=1.0)
        yield lambda share: progress.update(task, completed=share)


@cli.command(context_settings=CONTEXT, short_help="List what can go wrong with a probe.")
@click.option("--json", "to_json", is_flag=True, help="print JSON and nothing else")
def failures(to_json: bool) -> None:
    """List the vocabulary of failures: whose trouble each one is and what it means.

    \b
    prober failures
    prober failures --json
    """
    from prober.failures import FAILURES

    if to_json:
        print_json([{"failure": f, "side": side, "meaning": meaning} for f, (side, meaning) in FAILURES.items()])
        return
    for failure, (side, meaning) in FAILURES.items():
        click.echo(f"{failure:28} {side:9} {meaning}")


def _give_up_stdout() -> None:
    """Nothing more can be written; what is still in the buffer must not fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The entry point. What was wrong with the command line is said in one line."""
    # Started with a standard stream closed: nobody is to be told anything there.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without bars is no reason to fail
    try:
        status = cli(prog_name="prober", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "prober"
        fail(f"{command}: {error.format_message()} (see {command} --help)")
    except click.ClickException as error:
        fail(f"prober: {error.format_message()}")
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (BrokenPipeError, _PipeClosed):  # `prober outages | head`: whoever reads has enough, and nothing is wrong
        _give_up_stdout()
        sys.exit(0)
    except OSError as error:  # a full disk behind a redirection
        _give_up_stdout()
        fail(f"prober: cannot write the result: {error.strerror or error}")
    sys.exit(status if isinstance(status, int) else 0)
