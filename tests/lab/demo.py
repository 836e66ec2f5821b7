"""tests/demo [--keep] [--debian] [--fresh]: a DPDK guest moves a -> b -> a under novashim.

Installs the packages, builds, brings a real OpenStack with two simulated DPDK hosts up, boots a
server with Debian's nova-compute, replaces that by novashim on both hosts, and live-migrates the
server there and back with the openstack client while a ping with 20 ms between packets runs.
Exit status 0: everything held.

  --keep     leave the lab up, with novashim and the server
  --debian   the same story without the replacement: Debian's nova-compute all the way
  --fresh    wipe a lab that is in use
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

LAB = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(LAB))
sys.path.insert(0, LAB)
NAME, SECOND, NUMBER = 'demo', 'demo-second', 77
ADDRESS = f'10.98.0.{NUMBER}'
MIB_PER_S = 32      # the migrations' speed limit: slow enough to watch
GAP_LIMIT_S = 5.0   # what OpenStack's own integration tests allow

args = None
BOOTS = os.path.exists(f'{TOP}/driver/compute/build.c')
tty = sys.stdout.isatty()
steps = 0
checks = []


def paint(code, text):
    return f'\033[{code}m{text}\033[0m' if tty and 'NO_COLOR' not in os.environ else text


def bold(text):
    return paint(1, text)


def dim(text):
    return paint(2, text)


def note(text=''):
    print(f'      {text}')


def command(text):
    note(dim('$ ') + text)


class step:
    """A numbered line with the time it took; what happens meanwhile is printed below it."""

    def __init__(self, title):
        self.title = title

    def __enter__(self):
        global steps
        steps += 1
        self.started = time.time()
        print(f'\n {bold(f"{steps:2}")}  {bold(self.title)}')
        return self

    def __exit__(self, kind, *rest):
        took = f'{time.time() - self.started:.1f} s'
        note(paint(31, f'failed after {took}') if kind else dim(f'took {took}'))


def check(text, held, why=''):
    checks.append((bool(held), text, '' if held else why))
    return held


class Stop(Exception):
    """The story cannot go on; the text says why."""


def sh(script, log, env=None):
    """Runs a shell command quietly; its output is shown only if it fails."""
    with open(log, 'wb') as f:
        r = subprocess.run(['bash', '-c', script], cwd=TOP, stdin=subprocess.DEVNULL, stdout=f,
                           stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
    if r.returncode:
        with open(log, errors='replace') as f:
            tail = ''.join('      ' + line for line in f.readlines()[-25:])
        raise Stop(f'{script} failed:\n{tail}')


def cli(*words):
    """The real openstack client; returns its output."""
    command('openstack ' + ' '.join(words))
    r = subprocess.run(['/usr/bin/openstack', *words], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, env={**os.environ, **cloud.OS_ENV})
    if r.returncode:
        raise Stop(r.stderr.strip())
    return r.stdout


def mib(n):
    return f'{n / 2**20:.0f} MiB'


def rss(host):
    """Resident memory of a host's compute service, with what it started."""
    pid = cloud.pid_of(f'{host}/compute')
    with open(f'/proc/{pid}/status') as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read())[1]) * 1024


# --- the network as the guest's users see it

class Ping:
    def __enter__(self):
        self.log = open(f'{cloud.RUN}/demo-ping.log', 'w+')
        self.process = subprocess.Popen(['ping', '-D', '-i', '0.02', ADDRESS], text=True,
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *rest):
        self.process.terminate()
        self.process.wait()
        self.log.seek(0)
        at = [float(m[1]) for m in re.finditer(r'^\[([\d.]+)\].* icmp_seq=\d+ ttl',
                                               self.log.read(), re.M)]
        self.answers = len(at)
        self.gap = max((b - a for a, b in zip(at, at[1:])), default=float('inf'))
        self.log.close()


# --- what is where

def picture():
    """Where everything of the server is: server, guest, OVS ports, bindings, allocations."""
    s = cloud.show(NAME)
    beat, boot = cloud.wait_heartbeat(NAME)
    found = {'server': f'{s["status"]} on {s["host"]}', 'guest boot': boot,
             'guest counter': str(beat)}
    ports = cloud.ports(NAME)
    for h in ('host-a', 'host-b'):
        found[f'OVS ports, {h}'] = ', '.join(
            f'{p["name"]} tag {p["tag"]}' for p in ports if p['host'] == h) or '-'
    found['port binding'] = ', '.join(
        f'{b["host"]} {b["status"]}' for b in cloud.bindings(NAME))
    found['allocation'] = ', '.join(
        f'{a["consumer"]}: {a["host"]}' for a in cloud.allocations(NAME))
    found['resources'] = ', '.join(
        f'{n} {c}' for a in cloud.allocations(NAME) for c, n in sorted(a['resources'].items()))
    for h in ('host-a', 'host-b'):
        found[f'left over, {h}'] = ', '.join(cloud.leftovers(h)) or '-'
    return found


def table(columns):
    """Pictures side by side."""
    width = {t: max(len(t), *(min(len(v), 34) for v in p.values())) for t, p in columns.items()}
    note('  '.join(['%-17s' % ''] + [bold(t.ljust(width[t])) for t in columns]).rstrip())
    for row in next(iter(columns.values())):
        note('  '.join(['%-17s' % row] + [p[row].ljust(width[t]) for t, p in columns.items()]).rstrip())


# --- a move

def sample(source, migration):
    """(total, remaining, bytes per second or None) of the running migration, in bytes."""
    if not args.debian:
        try:
            for m in json.loads(cloud.in_host(source, CTL_TOOL, '--json', 'migration', 'list')):
                if m['migration_id'] == migration['id'] and m['memory_total']:
                    return m['memory_total'], m['memory_remaining'], m['memory_bps']
        except (cloud.Failed, ValueError, KeyError):
            pass  # an older daemon: the API knows too
    r = cloud.request('compute', 'GET', f'/servers/{cloud.find(NAME)}/migrations/'
                      f'{migration["id"]}')
    m = r.json().get('migration', {}) if r.status_code == 200 else {}
    if m.get('memory_total_bytes'):
        return m['memory_total_bytes'], m['memory_remaining_bytes'], None
    return None


def watch(source, before):
    """Prints how the migration goes until it has ended; returns it."""
    last, since = None, None
    while True:
        m = next((m for m in cloud.migrations(NAME) if m['id'] > before), None)
        if m and m['status'] in cloud.FINAL:
            return cloud.ended(NAME, before)[0]
        now = sample(source, m) if m and m['status'].startswith('running') else None
        if now and now[:2] != last:
            total, left, speed = now
            if speed is None and last and since:
                speed = max(0, last[1] - left) / (time.time() - since)
            done = 1 - left / total
            bar = '█' * round(done * 24)
            note(f'{bar:░<24}  {done:4.0%}  {mib(left):>8} left'
                 + (f'  {speed / 2**20:5.1f} MiB/s' if speed else ''))
            last, since = now[:2], time.time()
        if time.time() - begun > 300:
            raise Stop(f'the migration has not ended: {m}')
        time.sleep(.9)


def move(source, dest):
    global begun
    beat, boot = cloud.wait_heartbeat(NAME)
    known = max((m['id'] for m in cloud.migrations(NAME)), default=0)
    with Ping() as ping:
        time.sleep(1)
        begun = time.time()
        cli('--os-compute-api-version', '2.30', 'server', 'migrate', '--live-migration', '--host',
            dest, NAME)
        m = watch(source, known)
        took = (m['updated_at'] - m['created_at']).total_seconds()
        time.sleep(2)
    after, boot_after = cloud.wait_heartbeat(NAME, 0)
    note(f'{m["status"]} after {took:.0f} s; longest gap in the ping {bold(f"{ping.gap:.3f} s")} '
         f'({ping.answers} answers); counter {beat} -> {after}')
    arrow = f'{source[-1]} -> {dest[-1]}'
    server = cloud.show(NAME)
    check(f'{arrow}: migration completed, server ACTIVE on {dest}, no task',
          m['status'] == 'completed' and server['status'] == 'ACTIVE' and server['host'] == dest
          and not server['task'], f'{m["status"]}; {server}')
    check(f'{arrow}: the guest went on: same boot, counter {beat} -> {after}',
          boot == boot_after and after > beat, f'boot {boot} -> {boot_after}')
    check(f'{arrow}: longest gap in a 20 ms ping {ping.gap:.3f} s (limit {GAP_LIMIT_S:.0f} s)',
          ping.gap < GAP_LIMIT_S, f'{ping.gap:.1f} s')


def holds(title, before, now, dest):
    """Checks a picture taken after a move against the one taken before it."""
    other = 'host-a' if dest == 'host-b' else 'host-b'
    check(f'{title}: one OVS port, on {dest}',
          now[f'OVS ports, {dest}'].count('vhu') == 1 and now[f'OVS ports, {other}'] == '-',
          f'{dest}: {now[f"OVS ports, {dest}"]}; {other}: {now[f"OVS ports, {other}"]}')
    check(f'{title}: one port binding, {dest} ACTIVE', now['port binding'] == f'{dest} ACTIVE',
          now['port binding'])
    check(f'{title}: one allocation, same amounts, on {dest}',
          now['allocation'] == f'server: {dest}' and now['resources'] == before['resources'],
          f'{now["allocation"]}: {now["resources"]}')
    check(f'{title}: nothing left over on either host',
          now['left over, host-a'] == now['left over, host-b'] == '-',
          f'{now["left over, host-a"]}; {now["left over, host-b"]}')


def life(kind):
    """A second server's whole life, on host-b, under the service that runs there."""
    name, number = SECOND, NUMBER + 1
    with step(f'A server boots on host-b under {kind}: kernel, ramdisk, config drive, vhost-user port'):
        data = f'{cloud.RUN}/demo-user-data'
        with open(data, 'w') as f:
            f.write('#!/bin/sh\necho user data ran\n')
        began = time.time()
        cli('server', 'create', '--image', 'guest-kernel', '--flavor', 'lab.small', '--port', cloud.port(name, number),
            '--use-config-drive', '--user-data', data, '--os-compute-api-version', '2.74', '--host', 'host-b', name)
        server = cloud.wait(name, 'ACTIVE')
        note(f'ACTIVE {time.time() - began:.1f} s after the command began')
        cloud.wait_line(name, '^user data ran')
        drive = cloud.wait_line(name, '^config-drive /dev/.*')[0]
        note(f'the guest: {drive.split(" 20")[0]}; user data ran')
        cloud.until(30, 'ping', lambda: cloud.pings(number))
        boot = cloud.wait_heartbeat(name)[1]
        check(f'{kind} built a server that reads its config drive and answers ping', True)

    with step('Stopped, started, rebooted; a NIC comes and goes; a snapshot'):
        cli('server', 'stop', name)
        cloud.wait(name, 'SHUTOFF')
        clean = 'power button' in cloud.console(name, 50)
        cli('server', 'start', name)
        cloud.wait(name, 'ACTIVE')
        was = cloud.wait_line(name, '^disk written by (\\S+)')[1]
        check('stop shut the guest down cleanly, start booted the same disk', clean and was == boot)
        cli('server', 'reboot', '--hard', '--wait', name)
        cloud.wait_heartbeat(name)
        port = cloud.port(f'{name}-extra', number + 1)
        cli('server', 'add', 'port', name, port)
        cloud.until(60, 'the second NIC answers', lambda: cloud.pings(number + 1))
        cli('server', 'remove', 'port', name, port)
        cloud.wait_line(name, f'^nics fa:16:3e:00:00:{number:02x}$', after=2)
        check('a NIC was attached to the running guest, answered ping, and was detached', True)
        cli('server', 'image', 'create', '--wait', '--name', f'{name}-image', name)
        image = cloud.call('image', 'GET', f'/images?name={name}-image')['images'][0]
        check('its snapshot is in glance', image['status'] == 'active' and image['instance_uuid'] == server['id'])
        cli('image', 'delete', image['id'])
        bad = [e for e in cloud.events(name) if e['result'] != 'Success']
        check('every step of its life is recorded as Success', not bad, str(bad))

    with step('Deleted'):
        cli('server', 'delete', '--wait', name)
        cloud.delete(name)
        left = [x for h in ('host-a', 'host-b') for x in cloud.leftovers(h)]
        check('nothing of it is left: domain, ports, binding, allocation, directory', not left, '; '.join(left))


def compute_up():
    """The service list as the openstack client shows it, once both hosts are up."""
    def both():
        return [s for s in cloud.services() if s['binary'] == 'nova-compute'
                and s['host'] in ('host-a', 'host-b') and s['state'] == 'up']
    cloud.until(60, 'both compute services up', lambda: len(both()) == 2)
    for line in cli('compute', 'service', 'list', '--service', 'nova-compute', '-c', 'Host', '-c',
                    'Binary', '-c', 'Status', '-c', 'State').splitlines():
        note('  ' + line)
    return True


def story(logs):
    global cloud, CTL_TOOL
    kind = 'debian' if args.debian else 'novashim'
    CTL_TOOL = f'{TOP}/build/release/driver/novashimctl'

    with step('Debian packages: OpenStack Zed, libvirt, QEMU, OVS with DPDK'):
        sh('tests/lab/packages', f'{logs}/packages.log')
        if not args.debian:
            sh('. tests/lib.sh && apt_install $BUILD_PACKAGES', f'{logs}/packages.log')
    import cloud as module
    cloud = module
    if not args.debian:
        with step('Build'):
            for c in ('cmake --preset release', 'cmake --build --preset release'):
                command(c)
                sh(f'. tests/lib.sh && {c}', f'{logs}/build.log')

    if cloud.pid_of('mariadb') and not args.fresh:
        others = [r['display_name'] for r in cloud.sql(
            'nova', 'select display_name from instances where deleted=0')]
        if set(others) - {NAME, SECOND}:
            raise Stop(f'the lab is in use (servers: {", ".join(others)}); '
                       'delete them or use --fresh')
        for name in (NAME, SECOND):
            cloud.delete(name)
    with step('Control plane: mariadb rabbitmq keystone placement glance neutron nova'):
        sh(f'tests/lab/control-up {"--fresh" if args.fresh else ""}', f'{logs}/control-up.log')
    with step('Hosts host-a and host-b: libvirtd, OVS-DPDK, neutron agent, nova-compute'):
        extra = f'{cloud.RUN}/demo.conf'
        with open(extra, 'w') as f:
            f.write(f'[libvirt]\nlive_migration_bandwidth = {MIB_PER_S}\n')
        sh('tests/lab/host-up host-a & tests/lab/host-up host-b; b=$?; wait $! && exit $b',
           f'{logs}/host-up.log', {'COMPUTE': 'debian', 'INSTANCES': 'shared', 'DPDK': 'yes',
                                   'POSTCOPY': 'false', 'VIRT': 'qemu', 'NOVA_EXTRA': extra})
        compute_up()

    with step("A server boots on host-a under Debian's nova-compute"):
        cloud.create(NAME, NUMBER, 'host-a', 'guest-big', 'lab.big')
        cloud.wait_heartbeat(NAME)
        cloud.until(30, 'ping', lambda: subprocess.run(
            ['ping', '-c', '1', '-W', '1', ADDRESS], stdout=subprocess.DEVNULL).returncode == 0)
        p = cloud.ports(NAME)[0]
        note(f'{p["type"]} port {p["name"]}; answers ping at {ADDRESS}')
        first = picture()

    if not args.debian:
        with step("novashim replaces Debian's nova-compute, with the same nova.conf"):
            known = {h: cloud.hypervisor(h) for h in ('host-a', 'host-b')}
            for h in ('host-a', 'host-b'):
                was = rss(h)
                cloud.script('compute', h, 'stop')
                begun = time.time()
                cloud.script('compute', h, 'start', 'novashim')
                note(f'{h}: novashim reports up after {time.time() - begun:.1f} s; '
                     f'memory {mib(was)} -> {bold(mib(rss(h)))}')
            check('novashim is up on both hosts', compute_up())
            now = {h: cloud.hypervisor(h) for h in known}
            for what in ('provider', 'traits'):
                check(f'the cloud sees the same {what} as before',
                      all(now[h][what] == known[h][what] for h in known))
            check('the cloud sees the same inventory as before', all(
                {c: i['total'] for c, i in now[h]['inventory'].items() if c != 'MEMORY_MB'} ==
                {c: i['total'] for c, i in known[h]['inventory'].items() if c != 'MEMORY_MB'}
                for h in known))

    with step('Live migration host-a -> host-b'):
        move('host-a', 'host-b')
        there = picture()
        holds('a -> b', first, there, 'host-b')
    with step('Live migration host-b -> host-a'):
        move('host-b', 'host-a')
        back = picture()
        holds('b -> a', first, back, 'host-a')
    with step('Before and after'):
        table({'before': first, 'on host-b': there, 'back on host-a': back})
        bad = [e for e in cloud.events(NAME) if e['result'] != 'Success']
        check('every step of every action is recorded as Success', not bad,
              '; '.join(f'{e["event"]} {e["result"]}' for e in bad))
    if args.debian or BOOTS:
        life("Debian's nova-compute" if args.debian else 'novashim')
    if not args.debian:
        check('novashim served all of it', all(
            'COMPUTE=novashim' in open(f'{cloud.RUN}/{h}/settings').read()
            and cloud.pid_of(f'{h}/compute') for h in ('host-a', 'host-b')))
    return kind


def main():
    global args
    parser = argparse.ArgumentParser(prog='tests/demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ('--keep', '--debian', '--fresh'):
        parser.add_argument(option, action='store_true')
    args = parser.parse_args()
    if os.geteuid() != 0:
        return 'tests/demo needs root: namespaces, bridges, hugepages'
    logs = f'{TOP}/build/demo-logs'
    os.makedirs(logs, exist_ok=True)
    started = time.time()
    stopped = None
    print(bold("Live migration of an OVS-DPDK server, "
               + ("under Debian's nova-compute" if args.debian else 'under novashim')))
    try:
        story(logs)
    except (Stop, KeyboardInterrupt, subprocess.TimeoutExpired) as e:
        stopped = str(e) or 'interrupted'
    except Exception as e:  # a lab error: say what, then clean up all the same
        stopped = f'{type(e).__name__}: {e}'
    if stopped:
        check('the story was told to its end', False, stopped)
        subprocess.run(['bash', '-c', f'cp -r /var/log/novashim-lab/. {logs}/ 2>/dev/null'])
    if args.keep:
        print(f'\n     The lab stays up: see tests/lab/README.md; server `{NAME}` at {ADDRESS}')
    else:
        with step('Lab down'):
            sh('tests/lab/control-down', f'{logs}/control-down.log')

    print()
    for held, text, why in checks:
        print(f'  {paint(32, "✓") if held else paint(31, "✗")} {text}')
        for line in why.splitlines():
            print(f'      {line}')
    failed = sum(not held for held, *_ in checks)
    print(f'\n  {len(checks) - failed} of {len(checks)} held, {time.time() - started:.0f} s'
          + (f'; logs in {os.path.relpath(logs)}' if failed else ''))
    return 1 if failed else 0


sys.exit(main())
