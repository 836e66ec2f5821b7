"""tests/bench/run [--quick] [PART...]: novashim beside Debian's nova-compute, in one run of the lab.

Parts, all by default:
  start   exec to consuming, exec to up in the database
  idle    memory and threads; CPU over two idle minutes; one service on host-a, the other on host-b
  rpc     round trips, calls to both services and to a bare librabbitmq consumer taking turns
  move    live migrations a -> b -> a: from the cast to completed, longest gap in a ping, memory;
          and `virsh migrate --live` of a domain like the server's
  life    builds, one and ten at once, stop, start, hard reboot, attach: from conductor's cast to the
          last record, and what of it is not spent waiting for neutron
  audit   update_available_resource with 100 servers, and memory with them

--quick measures less often.  What is measured goes to build/bench/results.json, where other parts
stay as they were, and doc/benchmarks.md is written from it.  NOVASHIM=BINARY measures that one
instead of building.  The lab must have no servers; what runs of it stays up.
"""
import json
import os
import sys
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(BENCH))
sys.path[:0] = [os.path.join(TOP, 'tests', 'lab'), BENCH]
RESULTS = f'{TOP}/build/bench/results.json'
NOVASHIM = os.environ['NOVASHIM']
ECHO = os.path.join(os.path.dirname(os.path.dirname(NOVASHIM)), 'tests/interop/amqp_echo')
SERVER, NUMBER = 'bench', 78
if '--help' in sys.argv:
    sys.exit(__doc__)

import cloud  # noqa: E402
import audit  # noqa: E402
import bare  # noqa: E402
import life  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from hosts import HOSTS, KINDS, ON, QUICK, both, configure, pid, run_kind, say, settings, times  # noqa: E402

# --- parts: each returns {measurement: {who: value or list of values}}

def start():
    found = {'consuming': {k: [] for k in KINDS}, 'up': {k: [] for k in KINDS}}
    for i in range(times(5, 2)):
        for kind in KINDS:
            cloud.script('compute', 'host-a', 'stop')
            consuming, up = measure.time_start('host-a', kind)
            found['consuming'][kind].append(consuming)
            found['up'][kind].append(up)
            say(f'start {i + 1}, {kind}: consuming after {consuming:.3f} s, up after {up:.3f} s')
            time.sleep(3)  # the rest of its start, so that it stops in peace
    return found


def idle():
    both()
    found = {what: {k: measure.memory(pid(ON[k]))[what] for k in KINDS}
             for what in ('rss', 'pss', 'threads', 'processes')}
    seconds = times(120, 20)
    before = {k: measure.cpu(pid(ON[k])) for k in KINDS}
    time.sleep(seconds)
    found['cpu'] = {k: measure.cpu(pid(ON[k])) - before[k] for k in KINDS}
    found['seconds'] = seconds
    say(f'idle: {json.dumps(found)}')
    return found


def rpc():
    both()
    echo = measure.Echo(ECHO, ON['novashim'])
    servers = {**ON, 'echo': echo.NAME}
    found = {}
    try:
        for name, make in (('oslo.messaging', measure.OsloClient), ('Python amqp', measure.RawClient)):
            client = make()
            for what, call in measure.CALLS.items():
                taken = found[f'{what}, {name}'] = {who: [] for who in servers}
                for turn in range(times(21, 6)):
                    for who, server in servers.items():
                        some = [client.call(server, call) for _ in range(20)]
                        taken[who] += some if turn else []
            client.close()
        taken = found['ping, librabbitmq'] = {who: [] for who in servers}
        for _ in range(times(21, 6)):
            for who, server in servers.items():
                taken[who].append(measure.bare_calls(ECHO, server, 100))
    finally:
        echo.close()
    for what, taken in found.items():
        say(f'{what}: ' + ', '.join(f'{who} {measure.median(v) * 1e3:.2f} ms'
                                    for who, v in taken.items()))
    return found


def one_move(dest):
    before = cloud.migrate(SERVER, dest, False)
    m, s = cloud.ended(SERVER, before)
    return m['status'] == 'completed' and s['status'] == 'ACTIVE' and s['host'] == dest


def timed_move(dest):
    """{measurement: seconds}, or None for a migration that failed."""
    with measure.Wire() as wire:
        time.sleep(.5)
        with measure.Ping(f'10.98.0.{NUMBER}') as ping:
            time.sleep(1)
            held = one_move(dest)
            time.sleep(2)
    if not held:
        return None
    at = wire.since_cast()
    return {'move': at['status completed'], 'gap': ping.gap,
            'prepare': at['status running'],
            'finish': at['status completed'] - at['post_live_migration_at_destination']}


def moves_of(kind):
    """Moves there and back while both hosts run the same service."""
    for h in HOSTS:
        run_kind(h, kind)
    found = {'failed': 0}
    if cloud.show(SERVER)['host'] != 'host-a':
        found['failed'] += not one_move('host-a')
    for i in range(times(10, 4)):
        dest = 'host-b' if cloud.show(SERVER)['host'] == 'host-a' else 'host-a'
        taken = timed_move(dest)
        say(f'move {i + 1}, {kind}: {taken}')
        if not taken:
            found['failed'] += 1
            recreate()
            continue
        for what, value in taken.items():
            found.setdefault(what, []).append(value)
    host = cloud.show(SERVER)['host']
    other = 'host-b' if host == 'host-a' else 'host-a'
    with measure.Peak({'source': pid(host), 'destination': pid(other)}) as peak:
        one_move(other)
    found['peak'] = peak.peak
    return found


def recreate():
    cloud.delete(SERVER)
    cloud.create(SERVER, NUMBER, 'host-a')
    cloud.wait_heartbeat(SERVER)


def bare_moves():
    """Seconds of `virsh migrate --live` of a domain like the server's, there and back."""
    taken = []
    with bare.domain(SERVER) as name:
        cloud.virsh('host-a', 'start', name)
        time.sleep(12)  # the guest has booted, and is idle
        for i in range(times(10, 4)):
            here, there = HOSTS if i % 2 == 0 else HOSTS[::-1]
            cloud.virsh(here, 'migrate-setmaxdowntime', name, '50')
            started = time.time()
            cloud.virsh(here, 'migrate', '--live', '--p2p', '--persistent', '--undefinesource',
                        '--unsafe', name, f'qemu+tcp://{there}/system', timeout=120)
            taken.append(time.time() - started)
            say(f'bare move {i + 1}: {taken[-1]:.2f} s')
            time.sleep(1)
    return taken


def move():
    for h in HOSTS:  # Debian's builds it
        run_kind(h, 'debian')
    cloud.delete(SERVER)
    cloud.create(SERVER, NUMBER, 'host-a')
    cloud.wait_heartbeat(SERVER)
    try:
        found = {'bare': bare_moves()}
        for kind in KINDS:
            found[kind] = moves_of(kind)
    finally:
        for h in HOSTS:
            run_kind(h, 'debian')
        cloud.delete(SERVER)
    return found


# --- the lab, and what is written

PARTS = {'start': start, 'idle': idle, 'rpc': rpc, 'move': move, 'life': life.life, 'audit': audit.audit}


def lab_up():
    cloud.script('control-up', timeout=600)
    if cloud.sql('nova', 'select uuid from instances where deleted=0 and display_name<>%s', SERVER):
        raise cloud.Failed('the lab has servers: delete them first')
    configure()


def main():
    wanted = [a for a in sys.argv[1:] if not a.startswith('--')] or list(PARTS)
    if set(wanted) - set(PARTS):
        return __doc__
    if os.geteuid() != 0:
        return 'tests/bench/run needs root, as the lab does'
    results = {}
    if os.path.exists(RESULTS):
        with open(RESULTS) as f:
            results = json.load(f)
    before = {h: settings(h) for h in HOSTS}
    lab_up()
    try:
        for name in wanted:
            say(f'part {name}')
            load = os.getloadavg()[1]
            found = PARTS[name]()
            results[name] = {**found, 'at': time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
                             'quick': QUICK, 'load': [load, os.getloadavg()[1]],
                             'commit': report.commit(TOP)}
            os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
            with open(RESULTS, 'w') as f:
                json.dump(results, f, indent=1)
    finally:
        for h in HOSTS:
            cloud.script('host-up', h, env=before[h])
    report.write(results, f'{TOP}/doc/benchmarks.md')
    say('written: doc/benchmarks.md')


sys.exit(main())
