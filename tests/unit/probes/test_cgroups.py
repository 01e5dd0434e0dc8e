"""Limits of control groups, v1 and v2, nested and seen from inside a container, on trees of files."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from pause_manager.probes import cgroups
from pause_manager.probes.container_report import Report
from pause_manager.probes.memory import MIB, MemoryProbe
from pause_manager.probes.merge import MachineReading, merged
from pause_manager.probes.own_processes import TICKS_PER_SECOND
from pause_manager.probes.pressure import PressureProbe
from pause_manager.probes.sample import Sample
from pause_manager.probes.sampler import Sampler

V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "".join(
    f"{number} 31 0:{number} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
    for number, name in enumerate(["cpu", "cpuacct", "memory"], 32)
)
OURS = 4242
OUR_TREE = frozenset({OURS})
UNLIMITED_V1 = 9_223_372_036_854_771_712


class Machine:
    """A machine's file tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/loadavg", "1.50 1.00 0.50 3/200 4242")

    def write(self, path: str, text: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # In place: kept descriptors must see it, as they do in /proc.
        with file.open("w") as out:
            out.write(f"{text}\n")

    def works(self, *, busy: float, own: float, waited: float = 0.0) -> None:
        """So many seconds in all the two cores have been busy, our one process has run, and has waited to run."""
        ticks = round(busy * TICKS_PER_SECOND)
        half = ticks // 2
        cpus = [f"cpu{name} {busy_ticks} 0 0 900000 0 0 0 0 0 0" for name, busy_ticks in
                ((" ", ticks), ("0", half), ("1", ticks - half))]  # fmt: skip
        self.write("proc/stat", "\n".join(cpus))
        fields = ["S", 1, *[0] * 9, round(own * TICKS_PER_SECOND), 0, 0, 0, 20, 0, 1, 0, 5]
        self.write(f"proc/{OURS}/stat", f"{OURS} (worker) {' '.join(map(str, fields))}")
        self.write(f"proc/{OURS}/task/{OURS}/schedstat", f"{round(own * 1e9)} {round(waited * 1e9)} 1")

    def mounted(self, mountinfo: str, cgroup: str) -> None:
        self.write("proc/self/mountinfo", mountinfo)
        self.write("proc/self/cgroup", cgroup)


def memory(machine: Machine, probe: MemoryProbe | None = None) -> tuple[int, int]:
    """What the one container of a machine has, and what is free of it, in MiB."""
    reading = (probe or MemoryProbe(machine.root)).read()
    report = Report("here~1/boot/pid:[1]", "here", cpus=3, memory_limits=reading.limits)
    seen = MachineReading((0.0, 0.0), 0.0, None, reading.total_mib, reading.free_mib, {})
    view = merged("here", 0.0, seen, [report]).view
    return view.memory_mib, view.free_memory_mib


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def v2(machine: Machine) -> Machine:
    """A slice with a limit over a unit with none of its own."""
    machine.mounted(V2, "0::/batch.slice/worker.service")
    for group in ("sys/fs/cgroup/batch.slice", "sys/fs/cgroup/batch.slice/worker.service"):
        machine.write(f"{group}/cpu.max", "max 100000")
        machine.write(f"{group}/cpu.stat", "usage_usec 0\nuser_usec 0")
        for name in ("memory.max", "memory.high"):
            machine.write(f"{group}/{name}", "max")
        machine.write(f"{group}/memory.current", 0)
        machine.write(f"{group}/memory.stat", "anon 0\ninactive_file 0")
    return machine


def test_levels_go_from_the_own_group_to_the_mount(v2: Machine) -> None:
    found = cgroups.levels("memory", v2.root)

    base = v2.root / "sys/fs/cgroup"
    assert found == cgroups.Levels(2, (base / "batch.slice/worker.service", base / "batch.slice", base))


def test_a_container_without_its_own_namespace_sees_its_group_as_the_top(machine: Machine) -> None:
    machine.mounted(V2.replace(" / /sys", " /docker/abc /sys"), "0::/docker/abc/inner")
    (machine.root / "sys/fs/cgroup/inner").mkdir(parents=True)

    found = cgroups.levels("cpu", machine.root)

    assert found.paths == (machine.root / "sys/fs/cgroup/inner", machine.root / "sys/fs/cgroup")


def test_a_group_outside_the_mount_falls_back_to_the_mount(machine: Machine) -> None:
    machine.mounted(V2, "0::/../../elsewhere")
    (machine.root / "sys/fs/cgroup").mkdir(parents=True)

    assert cgroups.levels("cpu", machine.root).paths == (machine.root / "sys/fs/cgroup",)


def test_with_both_mounted_a_controller_of_v1_is_read_there(machine: Machine) -> None:
    machine.mounted(V1 + V2.replace("cgroup rw", "cgroup/unified rw"), "4:memory:/a\n1:cpu:/b\n0::/c")
    for path in ("memory/a", "cpu/b", "unified/c"):
        (machine.root / "sys/fs/cgroup" / path).mkdir(parents=True)

    assert cgroups.levels("memory", machine.root).version == 1
    assert cgroups.levels("memory", machine.root).paths[0].name == "a"


def test_a_machine_without_groups_has_none(machine: Machine) -> None:
    assert cgroups.levels("cpu", machine.root) == cgroups.Levels(0, ())
    assert MemoryProbe(machine.root).read().total_mib == psutil.virtual_memory().total // MIB


def test_the_tightest_memory_limit_up_the_tree_decides(v2: Machine) -> None:
    v2.write("sys/fs/cgroup/batch.slice/memory.max", 1000 * MIB)
    v2.write("sys/fs/cgroup/batch.slice/memory.current", 700 * MIB)
    v2.write("sys/fs/cgroup/batch.slice/memory.stat", f"anon {MIB}\ninactive_file {200 * MIB}")
    v2.write("sys/fs/cgroup/batch.slice/worker.service/memory.max", 2000 * MIB)
    v2.write("sys/fs/cgroup/batch.slice/worker.service/memory.current", 100 * MIB)

    assert memory(v2) == (1000, 500), "inactive page cache counts as free, floor or not"


LIMIT = "sys/fs/cgroup/batch.slice"


def limited(v2: Machine, used: int, stat: str, pressure: float | None = None) -> int:
    """What is free of 1,000 MiB of which a group uses ``used``; ``pressure`` is the share in which some of it waits."""
    v2.write(f"{LIMIT}/memory.max", 1000 * MIB)
    v2.write(f"{LIMIT}/memory.current", used * MIB)
    v2.write(f"{LIMIT}/memory.stat", stat)
    if pressure is not None:
        some = f"some avg10={pressure:.2f} avg60=0.00 avg300=0.00 total=1"
        v2.write(f"{LIMIT}/memory.pressure", f"{some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1")
    return memory(v2)[1]


def test_page_cache_and_slab_above_a_floor_are_free(v2: Machine) -> None:
    reads_data = f"anon {100 * MIB}\ninactive_file {130 * MIB}\nactive_file {720 * MIB}\nslab_reclaimable {30 * MIB}"

    assert limited(v2, 990, reads_data) == 10 + 130 + 720 + 30 - 20, "all but 2 % of the limit"
    assert limited(v2, 990, reads_data, pressure=9.0) == 870
    assert limited(v2, 990, f"anon {900 * MIB}\ninactive_file {10 * MIB}\nactive_file {5 * MIB}") == 20, "the floor"


def test_cache_of_a_group_whose_work_waits_for_memory_is_in_use(v2: Machine) -> None:
    thrashes = f"anon {100 * MIB}\ninactive_file {30 * MIB}\nactive_file {820 * MIB}"

    assert limited(v2, 990, thrashes, pressure=35.5) == 10 + 30


def test_cache_of_v1_is_free_as_well(machine: Machine) -> None:
    machine.mounted(V1, "4:memory:/a")
    machine.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", 1000 * MIB)
    machine.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", 900 * MIB)
    machine.write(
        "sys/fs/cgroup/memory/a/memory.stat",
        f"inactive_file 1\ntotal_inactive_file {300 * MIB}\ntotal_active_file {200 * MIB}",
    )

    assert memory(machine)[1] == 100 + 500 - 20


@pytest.fixture
def host(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of 16,000 MiB, 1,000 of them free and 5,000 available."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(machine.root / "proc"))
    figures = {
        "MemTotal": 16_000,
        "MemFree": 1_000,
        "MemAvailable": 5_000,
        "Buffers": 0,
        "Cached": 4_500,
        "Shmem": 0,
        "Active": 9,
        "Inactive": 9,
    }
    lines = [f"{name}: {1024 * mib} kB" for name, mib in figures.items()]
    machine.write("proc/meminfo", "\n".join(lines))
    return machine


def test_the_cache_of_zfs_above_its_minimum_is_free(host: Machine) -> None:
    assert MemoryProbe(host.root).read().free_mib == 5_000
    figures = [f"{name:<32}4    {mib * MIB}" for name, mib in (("c_min", 500), ("c_max", 8_000), ("size", 7_500))]
    host.write("proc/spl/kstat/zfs/arcstats", "\n".join(["9 1 0x01 147 39984 1 2", "name type data", *figures]))

    assert MemoryProbe(host.root).read().free_mib == 5_000 + 7_000

    host.write("proc/spl/kstat/zfs/arcstats", figures[0])
    assert MemoryProbe(host.root).read().free_mib == 5_000, "no size is told"


@pytest.mark.parametrize(("some", "full", "free"), [(50.0, 0.0, 5_000), (90.0, 12.0, 1_000)])
def test_cache_of_a_machine_on_which_all_wait_for_memory_is_in_use(
    host: Machine, some: float, full: float, free: int
) -> None:
    host.write("proc/pressure/memory", f"some avg10={some} avg60=0 avg300=0 total=9\nfull avg10={full} avg60=0 total=9")

    assert MemoryProbe(host.root).read().free_mib == free


@pytest.mark.req("P-29")
def test_kills_for_want_of_memory_are_counted_in_the_own_group_only(v2: Machine) -> None:
    assert MemoryProbe(v2.root).read().oom_kills == 0, "a kernel that does not count them"
    v2.write("sys/fs/cgroup/batch.slice/worker.service/memory.events", "low 0\noom 2\noom_kill 2\noom_group_kill 0")
    v2.write("sys/fs/cgroup/batch.slice/memory.events", "low 0\noom 9\noom_kill 9")

    assert MemoryProbe(v2.root).read().oom_kills == 2


def test_kills_of_v1_are_in_another_file(machine: Machine) -> None:
    machine.mounted(V1, "4:memory:/a")
    machine.write("sys/fs/cgroup/memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3")

    assert MemoryProbe(machine.root).read().oom_kills == 3


def test_memory_high_is_a_limit_too(v2: Machine) -> None:
    v2.write("sys/fs/cgroup/batch.slice/memory.high", 300 * MIB)

    assert memory(v2)[0] == 300


def test_free_memory_is_never_negative_nor_more_than_the_machine_has(v2: Machine) -> None:
    v2.write("sys/fs/cgroup/batch.slice/memory.max", 100 * MIB)
    v2.write("sys/fs/cgroup/batch.slice/memory.current", 150 * MIB)

    assert memory(v2)[1] == 0


def test_memory_of_v1_and_its_number_for_no_limit(machine: Machine) -> None:
    machine.mounted(V1, "4:memory:/outer/inner")
    for group, limit, used in (("memory", UNLIMITED_V1, 0), ("memory/outer", 512 * MIB, 200 * MIB)):
        machine.write(f"sys/fs/cgroup/{group}/memory.limit_in_bytes", limit)
        machine.write(f"sys/fs/cgroup/{group}/memory.usage_in_bytes", used)
        machine.write(f"sys/fs/cgroup/{group}/memory.stat", f"cache 0\ntotal_inactive_file {50 * MIB}")
    (machine.root / "sys/fs/cgroup/memory/outer/inner").mkdir()

    assert memory(machine) == (512, 362)


def test_kept_files_show_what_is_in_them_now(v2: Machine) -> None:
    v2.write("sys/fs/cgroup/batch.slice/memory.max", 1000 * MIB)
    probe = MemoryProbe(v2.root)
    assert memory(v2, probe)[1] == 1000

    v2.write("sys/fs/cgroup/batch.slice/memory.current", 600 * MIB)

    assert memory(v2, probe)[1] == 400


@pytest.fixture
def two_cores(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of two cores on which nothing has happened yet."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    machine.write("proc/meminfo", Path("/proc/meminfo").read_text().strip())
    monkeypatch.setattr("psutil.PROCFS_PATH", str(machine.root / "proc"))
    machine.works(busy=0, own=0)
    return machine


def measure(
    machine: Machine,
    *,
    busy: float = 0.0,
    own: float = 0.0,
    wait_factor: float = 1.0,
    group: str = "",
    in_group: float = 0.0,
) -> Sample:
    """The sample of a while in which so many cores were busy, of which so many with our own work."""
    sampler = Sampler(with_gpus=False, root=machine.root)
    first = sampler.read(OUR_TREE)
    assert first is None, "nothing to compare with yet"
    began = time.monotonic()
    report = None
    for _ in range(3):  # our own waiting is measured from the second reading of a full CPU on
        time.sleep(0.3)
        past = time.monotonic() - began
        machine.works(busy=busy * past, own=own * past, waited=own * (wait_factor - 1) * past)
        if group:
            machine.write(f"{group}/cpu.stat", f"usage_usec {round(in_group * past * 1e6)}")
        report = sampler.read(OUR_TREE)
    assert report is not None
    return sampler.sample("here", [report])


def test_the_tightest_quota_up_the_tree_is_the_number_of_cores(v2: Machine, two_cores: Machine) -> None:
    v2.write("sys/fs/cgroup/batch.slice/cpu.max", "50000 100000")
    v2.write("sys/fs/cgroup/batch.slice/worker.service/cpu.max", "150000 100000")

    reading = measure(v2)

    assert (reading.view.cores, reading.view.foreign_cores) == (0.5, 0.0)


def test_quota_of_v1_and_its_sign_for_no_limit(two_cores: Machine) -> None:
    two_cores.mounted(V1, "1:cpu:/inner\n2:cpuacct:/inner")
    for group, quota in (("", -1), ("inner/", 120_000)):
        two_cores.write(f"sys/fs/cgroup/cpu/{group}cpu.cfs_quota_us", quota)
        two_cores.write(f"sys/fs/cgroup/cpu/{group}cpu.cfs_period_us", 100_000)
        two_cores.write(f"sys/fs/cgroup/cpuacct/{group}cpuacct.usage", 0)

    assert measure(two_cores).view.cores == 1.2


@pytest.mark.parametrize(("busy", "foreign"), [(1.0, 0.0), (1.8, 0.3)])
def test_a_stranger_on_the_host_costs_a_small_group_nothing_until_it_reaches_its_cores(
    v2: Machine, two_cores: Machine, busy: float, foreign: float
) -> None:
    v2.write("sys/fs/cgroup/batch.slice/cpu.max", "50000 100000")

    reading = measure(v2, busy=busy)

    assert reading.view.foreign_cores == pytest.approx(foreign, abs=0.08)


def test_a_stranger_in_our_group_is_foreign_and_we_are_not(v2: Machine, two_cores: Machine) -> None:
    v2.write("sys/fs/cgroup/batch.slice/cpu.max", "100000 100000")

    reading = measure(v2, busy=0.8, own=0.3, group="sys/fs/cgroup/batch.slice", in_group=0.8)

    assert reading.own_cores == pytest.approx(0.3, abs=0.05)
    assert reading.view.foreign_cores == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("own", "wait_factor", "running", "wanted"),
    [
        (1.0, 2.0, 5, 2.0),  # two of ours and two strangers on two cores: each gets half of what it wants
        (1.6, 2.5, 6, 1.0),  # four of ours and one stranger: it wants one core, though it gets 0.4
        (1.98, 3.0, 7, 0.06),  # only ours: however much we wait, nobody else does
        (1.0, 4.0, 6, 1.0),  # a group of four of ours, and one stranger with a core of its own, who wants no more
    ],
)
def test_on_a_full_cpu_foreign_use_is_raised_to_foreign_demand(
    two_cores: Machine, own: float, wait_factor: float, running: int, wanted: float
) -> None:
    two_cores.write("proc/loadavg", f"3.00 2.00 1.00 {running}/200 4242")

    reading = measure(two_cores, busy=2.0, own=own, wait_factor=wait_factor)

    assert reading.view.foreign_cores == pytest.approx(wanted, abs=0.25 * max(wanted, 0.4))


def test_pressure_is_the_share_of_time_since_the_last_reading(machine: Machine) -> None:
    machine.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0 total=0")
    probe = PressureProbe(machine.root)
    began = time.monotonic()
    assert probe.read() == {}
    time.sleep(0.4)

    stalled = int((time.monotonic() - began) * 5e5)
    machine.write("proc/pressure/cpu", f"some avg10=9.99 avg60=0.00 avg300=0.00 total={1_000_000 + stalled}")

    assert probe.read() == {"cpu": pytest.approx(0.5, abs=0.1)}


def test_a_spike_of_strangers_is_told_and_does_not_count_as_steady(two_cores: Machine) -> None:
    sampler = Sampler(with_gpus=False, root=two_cores.root)
    assert sampler.read(OUR_TREE) is None
    told, steady, busy, last = [], [], 0.0, time.monotonic()

    for cores in (0, 0, 0, 1.5, 1.5, 0, 1.5, 1.5, 1.5):
        time.sleep(0.2)
        now = time.monotonic()
        busy, last = busy + cores * (now - last), now
        two_cores.works(busy=busy, own=0)
        report = sampler.read(OUR_TREE)
        assert report is not None
        sample = sampler.sample("here", [report])
        told.append(int(sample.view.foreign_cores > 0.7))
        steady.append(int(sample.view.counted_foreign_cores > 0.7))

    assert told == [0, 0, 0, 1, 1, 0, 1, 1, 1]
    assert steady == [0, 0, 0, 0, 0, 0, 1, 1, 1], "the middle of the last five"
