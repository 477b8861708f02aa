"""What wakes people, end to end: real agents, Prometheus on the shipped rules, Alertmanager on the shipped routes.

All scenarios run at the same time, each with vantages, Prometheus and Alertmanager of its own. A notification that a
scenario does not expect fails it. Times are a twelfth of the shipped ones (tests/e2e/pages.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import pytest

from tests.contract.test_rules import FOREIGN
from tests.e2e.agent import open_directory
from tests.e2e.country import MIRROR, NETWORKS, TARGETS, Moment, Vantage, World
from tests.e2e.pages import SCALE, Desk, Note, spoken_seconds
from tests.e2e.plays import Plays, when_ready
from tests.lab import require_program

pytestmark = pytest.mark.timeout(300)

QUICK: Final = "{interval: 1s, timeout: 300ms}"
JUDGEMENT: Final = "{confirm_interval: 100ms, blip: 5s, false_outages_per_year: 1000}"
"""About six failures in a row."""
TITLED: Final = TARGETS.replace("entity: country\n", "entity: country\ntitle: The Country\n")

DARK: Final = ("EntityDark", "country")
AGAIN: Final = ("ReachableAgain", "country")

LEARNED: Final = 14.0
"""Seconds until the agents have seen everything up often enough."""
SOON: Final = 45.0
"""More than anything takes on a busy machine; what takes longer is missing."""
QUIET: Final = 150 / SCALE + 6.0
"""Parts that were to be told would have been by then: the longest group_wait, and an evaluation or two."""

BACK = re.compile(r"^The Country reachable again after (?P<about>about )?(?P<long>[^(]+)(?: \(±(?P<margin>.+)\))?$")


@dataclass
class Scene:
    """A scenario's vantages and its desk."""

    vantages: list[Vantage]
    desk: Desk

    @property
    def vantage(self) -> Vantage:
        return self.vantages[0]

    def learn(self) -> None:
        """Let the agents see everything up, and the rules see that."""
        for vantage in self.vantages:
            vantage.warm_up(LEARNED)
        self.desk.ask_when(
            'scope:prober_state:quorum{scope="entity"} == 1 and '
            f'scope:prober_votes:count{{scope="entity"}} == {len(self.vantages)}',
            SOON,
        )

    def cut(self) -> Moment:
        """The country's networks are gone, for every vantage."""
        moments = [vantage.cut_network(*NETWORKS) for vantage in self.vantages]
        return Moment(moments[0].begin, moments[-1].end)

    def mend(self) -> Moment:
        """And are back."""
        moments = [vantage.mend_network() for vantage in self.vantages]
        return Moment(moments[0].begin, moments[-1].end)


def assert_duration(note: Note, cut: Moment, mended: Moment) -> None:
    """What "reachable again" says holds the truth within its margin (and the rounding to seconds)."""
    found = BACK.match(note.summary)
    assert found, note.summary
    assert found["margin"], note.summary
    said, margin = spoken_seconds(found["long"]), spoken_seconds(found["margin"])
    least, most = mended.begin - cut.end, mended.end - cut.begin
    assert least - margin - 1.0 <= said <= most + margin + 1.0, (note.summary, least, most)


def dark_restarts(scene: Scene) -> None:
    """Dark; agent and Prometheus restarted meanwhile; back."""
    scene.learn()
    desk = scene.desk
    cut = scene.cut()
    page = desk.expect(*DARK, SOON)
    assert re.fullmatch(r"The Country is dark since \S+ \S+ UTC, seen by 1 of 1 vantages", page.summary), page.summary
    assert page.receiver == "page"
    # interval, confirmation, scrape, evaluation (of two groups), the wait and `for`: 1 + 2 + 1.25 + 2.5 + 3.75 + 2.5
    assert page.at - cut.begin < 30.0, desk.report()
    scene.vantage.agent.process.stop()
    scene.vantage.start()
    scene.vantage.watch(6.0)
    desk.restart_prometheus()
    scene.vantage.watch(10.0)
    assert DARK not in desk.resolved, desk.report()
    mended = scene.mend()
    back = desk.expect(*AGAIN, SOON)
    assert back.receiver == "recovery"
    assert_duration(back, cut, mended)
    scene.vantage.watch(QUIET)
    gone = ("AgentGone", scene.vantage.label)  # true, if a busy machine took long to start it again
    desk.only(DARK, AGAIN, *([gone] if gone in desk.resolved else []))


def dark_unseen(scene: Scene) -> None:
    """Dark; the only vantage goes offline and comes back; then the country does."""
    scene.learn()
    desk = scene.desk
    cut = scene.cut()
    desk.expect(*DARK, SOON)
    scene.vantage.cut_uplink()
    offline = ("VantageOffline", scene.vantage.label)
    desk.expect(*offline, SOON)
    unseen = desk.wait(lambda: [s for s in desk.summaries("EntityDark") if "not observed since" in s], SOON, "unseen")
    assert re.search(r", not observed since \S+ \S+ UTC, seen by 0 of 1 vantages$", unseen[0]), unseen
    scene.vantage.mend_uplink()
    desk.ask_when('scope:prober_state:quorum{scope="entity"} == 0', SOON)
    scene.vantage.watch(3.0)
    assert DARK not in desk.resolved, desk.report()
    mended = scene.mend()
    assert_duration(desk.expect(*AGAIN, SOON), cut, mended)
    scene.vantage.watch(QUIET)
    desk.only(DARK, offline, AGAIN)


def uplink(scene: Scene) -> None:
    """Only the vantage is cut off."""
    scene.learn()
    scene.vantage.cut_uplink()
    offline = ("VantageOffline", scene.vantage.label)
    scene.desk.expect(*offline, SOON)
    scene.vantage.watch(QUIET)
    # meanwhile: what the rules read of Prometheus and Alertmanager is exported by them
    for metric in FOREIGN:
        if "remote_storage" not in metric:  # nobody writes to a remote here
            assert scene.desk.ask(metric), metric
    scene.vantage.mend_uplink()
    scene.desk.ask_when('scope:prober_state:quorum{scope="entity"} == 1', SOON)
    scene.vantage.watch(QUIET)
    scene.desk.only(offline)


def twice_and_blip(scene: Scene) -> None:
    """A blip, then two outages within minutes."""
    scene.learn()
    desk = scene.desk
    scene.cut()
    desk.ask_when('scope:prober_state:quorum{scope="entity"} == 0', SOON)  # it is noticed, and that is all
    scene.mend()
    desk.ask_when('scope:prober_state:quorum{scope="entity"} == 1', SOON)
    scene.vantage.watch(4.0)
    for times in (1, 2):
        cut = scene.cut()
        desk.expect(*DARK, SOON, times=times)
        scene.vantage.watch(3.0)
        mended = scene.mend()
        back = desk.expect(*AGAIN, SOON, times=times)
        assert_duration(back, cut, mended)
        scene.vantage.watch(1.0)
    scene.vantage.watch(QUIET)
    desk.only(DARK, AGAIN, DARK, AGAIN)


def mirror_abroad(scene: Scene) -> None:
    """While the country is dark a mirror elsewhere fails, and with it the site."""
    scene.learn()
    desk = scene.desk
    scene.cut()
    desk.expect(*DARK, SOON)
    scene.vantage.cut("abroad", f"ip daddr {MIRROR}")
    site = desk.expect("SiteDown", "news", SOON + QUIET)
    assert site.summary.startswith("Site News (country) cannot be reached since "), site.summary
    scene.vantage.watch(QUIET)
    desk.only(DARK, ("SiteDown", "news"))


def peninsula(scene: Scene) -> None:
    """Two of three vantages lose sight of the country; then the third, which reaches it, goes offline."""
    scene.learn()
    desk = scene.desk
    for vantage in scene.vantages[:2]:
        vantage.cut_network(*NETWORKS)
    told = desk.expect("Peninsula", "country", SOON + 360 / SCALE)
    assert told.summary.endswith("seen down by 2, up by 1 of 3 vantages"), told.summary
    witness = scene.vantages[2]
    witness.cut_uplink()
    offline = ("VantageOffline", witness.label)
    desk.expect(*offline, SOON)
    scene.vantage.watch(5.0)
    assert desk.ask('scope:prober_state:quorum{scope="entity"} == 2'), desk.report()
    desk.only(("Peninsula", "country"), offline)


def one_by_one(scene: Scene) -> None:
    """All of three vantages lose the country; its networks return one by one."""
    scene.learn()
    desk = scene.desk
    cut = scene.cut()
    page = desk.expect(*DARK, SOON)
    assert page.summary.endswith("seen by 3 of 3 vantages"), page.summary
    for vantage in scene.vantages:
        vantage.cut("southern", f"ip daddr {NETWORKS['south']}")
    mended = scene.mend()
    assert_duration(desk.expect(*AGAIN, SOON), cut, mended)
    scene.vantage.watch(QUIET)
    for vantage in scene.vantages:
        vantage.mend("southern")
    desk.ask_when('scope:prober_state:quorum{scope="entity"} == 1', SOON)
    scene.vantage.watch(QUIET / 2)
    desk.only(DARK, AGAIN)


def never_answered(scene: Scene) -> None:
    """A fresh install: nothing of the country has ever answered, and of the world only the references."""
    scene.vantage.watch(40.0)
    assert scene.desk.ask('scope:prober_state:quorum{scope="entity"} == 6'), scene.desk.report()
    scene.desk.only()


SCENARIOS: Final[dict[Callable[[Scene], None], int]] = {
    peninsula: 3,
    one_by_one: 3,
    dark_restarts: 1,
    dark_unseen: 1,
    uplink: 1,
    twice_and_blip: 1,
    mirror_abroad: 1,
    never_answered: 1,
}
"""Each with how many vantages it has."""


BY_NAME: Final = {scenario.__name__: scenario for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def played() -> Iterator[Plays]:
    """All scenarios, started at the same time."""
    for program in ("nft", "prometheus", "prometheus-alertmanager"):
        require_program(program)
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        world = World(stack, directory)

        def stage(stack: ExitStack, name: str, label: str) -> Callable[[], None]:
            scenario = BY_NAME[name]
            vantages = [
                Vantage(
                    stack,
                    world,
                    f"{label}-{letter}",
                    timing=QUICK,
                    judgement=JUDGEMENT,
                    targets=TITLED,
                    settings="listen: 0.0.0.0:9911\n",
                )
                for letter in "abc"[: SCENARIOS[scenario]]
            ]
            if scenario is never_answered:
                vantages[0].cut_network(*NETWORKS)
                vantages[0].cut("abroad", f"ip daddr {MIRROR}")
            for vantage in vantages:
                vantage.start(wait=False)
            scene = Scene(vantages, Desk(stack, label, directory / f"{label}-desk", [v.host for v in vantages]))
            return when_ready(vantages, partial(scenario, scene))

        yield Plays(stack, BY_NAME, stage)


@pytest.mark.parametrize("name", BY_NAME)
def test_pages(name: str, played: Plays) -> None:
    played.result(name)
