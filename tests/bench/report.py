"""doc/benchmarks.md from what bench.py has measured."""
import os
import re
import statistics
import subprocess


def output(*cmd):
    r = subprocess.run(cmd, capture_output=True, text=True)
    return r.stdout.strip() if r.returncode == 0 else ''


def commit(top):
    return output('git', '-C', top, 'rev-parse', '--short', 'HEAD')


def version(package):
    return re.sub(r'^\d+:', '', output('dpkg-query', '-W', '-f', '${Version}', package))


def machine():
    with open('/proc/cpuinfo') as f:
        cpu = re.search(r'model name\s*: (.*)', f.read())
    with open('/proc/meminfo') as f:
        memory = int(re.search(r'MemTotal: +(\d+)', f.read())[1]) / 2**20
    return (f'{os.cpu_count()} cores of {cpu[1] if cpu else os.uname().machine}, {memory:.0f} GiB, '
            f'Linux {os.uname().release}, {output("systemd-detect-virt") or "no"} virtualisation')


def middle(value):
    return statistics.median(value) if isinstance(value, list) else value


def number(value, unit):
    if value is None:
        return '-'
    value = middle(value) * (1000 if unit == 'ms' else 1)
    digits = 0 if unit == '' or value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f'{value:.{digits}f}{" " + unit if unit else ""}'


class Table:
    def __init__(self):
        self.lines = ['| | floor | nova-compute | novashim | ratio |', '|---|--:|--:|--:|--:|']

    def add(self, what, unit, debian, novashim, floor=None):
        has_both = debian is not None and novashim is not None and middle(novashim)
        ratio = f'{middle(debian) / middle(novashim):.1f}' if has_both else '-'
        self.lines.append(f'| {what} | {number(floor, unit)} | {number(debian, unit)} | '
                          f'{number(novashim, unit)} | {ratio} |')


def n_of(values):
    return len(values) if values else 0


def add_start(t, r):
    for what, text in (('consuming', 'exec to consuming its queues'),
                       ('up', 'exec to up in the database')):
        t.add(f'{text} ({n_of(r[what]["debian"])} starts)', 's', r[what]['debian'],
              r[what]['novashim'])


def add_idle(t, r):
    for what, text, unit in (('rss', 'resident memory, idle (RSS)', 'MiB'),
                             ('pss', 'the same without what is shared (PSS)', 'MiB'),
                             ('threads', 'threads, idle', '')):
        t.add(text, unit, r[what]['debian'], r[what]['novashim'])
    t.add(f'CPU time of {r["seconds"]} idle seconds', 'ms', r['cpu']['debian'], r['cpu']['novashim'])


def add_rpc(t, r):
    for what, taken in r.items():
        if isinstance(taken, dict) and 'echo' in taken:
            t.add(f'round trip of {what}', 'ms', taken['debian'], taken['novashim'], taken['echo'])


def add_move(t, r):
    d, n = r['debian'], r['novashim']
    counts = f'({n_of(d.get("move"))} and {n_of(n.get("move"))})'
    t.add(f'live migration, cast to completed {counts}', 's', d.get('move'), n.get('move'), r['bare'])
    t.add('of that, before libvirt copies', 's', d.get('prepare'), n.get('prepare'))
    t.add('of that, from calling the destination to completed', 's', d.get('finish'), n.get('finish'))
    t.add('longest gap in a 20 ms ping, median', 's', d.get('gap'), n.get('gap'))
    t.add('longest gap in a 20 ms ping, worst', 's', max(d.get('gap', [0])), max(n.get('gap', [0])))
    for end in ('source', 'destination'):
        for what, unit in (('rss', 'MiB'), ('pss', 'MiB'), ('threads', '')):
            t.add(f'most {what.upper() if unit else what} during a migration, {end}', unit,
                  d['peak'][end][what], n['peak'][end][what])
    t.add('migrations that failed', '', d['failed'], n['failed'])


LIFE = (  # what it is called in the results, in the table, and of the floors
    ('build', 'build of a cached image, cast to ACTIVE', 'start'),
    ('stop', 'stop, cast to the last record', 'stop'),
    ('start', 'start', 'start'),
    ('reboot', 'hard reboot', 'reboot'),
    ('attach', 'attach of an interface, call to reply', None),
    ('ten', 'ten builds at once, a port each', None),
    ('ten without ports', 'ten builds at once, no ports', None))


def add_life(t, r):
    d, n = r['debian'], r['novashim']
    for what, text, floor in LIFE:
        every, own = ([[x[sort] for x in k[what]] if what in k else None for k in (d, n)] for sort in ('all', 'own'))
        t.add(f'{text} ({n_of(every[0])} and {n_of(every[1])})', 's', *every, r['bare'][floor] if floor else None)
        if own != every:
            t.add('of that, not waiting for neutron', 's', *own)
    t.add('turns that failed', '', d['failed'], n['failed'])


def add_audit(t, r):
    t.add(f'audit with {r["servers"]} servers ({n_of(r["took"]["debian"])} and {n_of(r["took"]["novashim"])})',
          's', r['took']['debian'], r['took']['novashim'])
    for what, text, unit in (('cpu', 'CPU time of the service per audit', 'ms'),
                             ('libvirt', 'CPU time of libvirtd per audit', 'ms'),
                             ('rss', 'RSS with them', 'MiB'), ('pss', 'PSS with them', 'MiB'),
                             ('threads', 'threads with them', '')):
        t.add(text, unit, r[what]['debian'], r[what]['novashim'])


ADD = {'start': add_start, 'idle': add_idle, 'rpc': add_rpc, 'move': add_move, 'life': add_life,
       'audit': add_audit}
TEXT = '''# Benchmarks

Written by `tests/bench/run`; do not edit. Debian's nova-compute and novashim with the same
`nova.conf` (no debug log), the same broker, database and hosts of the lab (`tests/lab/README.md`),
taking turns or side by side. Each table is of one run; when, of which commit and how busy the machine
was is said below. A load above the number of cores means that other work ran: values are then too
high, and only the ratios tell something. Values are medians, of the processes with all that they
start. Ratio: nova-compute's value by novashim's, so above 1 novashim needs less.

{tables}
## What the rows mean

* **exec to consuming**: until the broker counts a consumer on the host's queue. **To up**: until
  the first report is in the database. Both are looked for all the time, with some milliseconds
  between.
* **idle**: no servers; measured after the first periodic jobs. CPU time is that of the scheduler's
  clock, not of ticks. RSS counts every mapped page of a library as if it were this process's alone; PSS
  divides it among those that map it. novashim unmaps its libraries' code when a burst of work is over
  (it stays in the page cache), so its RSS is what it used since. Without that RSS is 12 MiB more, and
  PSS hardly.
* **round trip**: one call at a time, by oslo.messaging's client, by Python's amqp library, and by a
  caller made of librabbitmq alone. Floor: a librabbitmq consumer that answers without reading what it
  is asked (`tests/bench/amqp_echo.c`), on the same broker and in novashim's host: what the client
  and the broker take by themselves. It has one connection and no confirms.
* **live migration**: a server of 128 MiB in hugepages with a vhost-user port, its disk on shared
  storage, emulated (no KVM). From conductor's cast of `live_migration` on the wire to the message
  that stores `completed`, as the broker sees them. Floor: `virsh migrate --live` of the same domain
  under another name, from the start of virsh to its end. **Gap**: between two answers to a ping.
* **build** and what follows it: nova-compute on host-a, novashim on host-b, a server of each in
  turn. A server of 32 MiB in hugepages with a vhost-user port, of an image that boots nothing and
  that the host has in its cache, is built, rebooted hard, and given a second port; one of 128 MiB,
  booted, is stopped by its power button and started. From the cast (of the attach: the call) on the
  wire to the message that stores the last state, or to the reply, as the broker sees them. **Not
  waiting for neutron**: without the time in which neutron had not answered the service yet, seen by
  a proxy before neutron, and without that between libvirt's event that the guest is there and the
  message that its port is plugged. Floor: libvirt alone starts, shuts down, or destroys and starts
  such a domain. Up to a second of each start is OVS, which looks for a vhost-user socket once a
  second. **Ten at once**: one request for ten servers, from the cast of the first build to the last
  that is ACTIVE.
* **audit**: the same stopped servers (16 MiB in hugepages, no ports, a disk each) on the same host,
  first with one service and then with the other, twice; an audit each 10 s. nova-compute: from
  "Auditing locally available compute resources" in its debug log to the release of its lock;
  novashim: `audit_took_ms` of its control socket, which also holds what comes before and after. CPU
  time is that of ten seconds with one audit.

## Machine and commands

{facts}

    tests/bench/run                    # all of it, {minutes}
    tests/bench/run --quick            # fewer repetitions
    tests/bench/run rpc                # one part
'''


def kept(path):
    """{part: (table, fact)} of the document as it is: for parts that other runs have measured."""
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        text = f.read()
    tables = re.findall(r'(?:^\|.*\n)+', text, re.M)
    facts = re.findall(r'^\* (?:%s): .*\n(?:  .*\n)*' % '|'.join(ADD), text, re.M)
    was = re.search(r'^\* (\d+ cores of .*)', text, re.M)
    found = {}
    for table, fact in zip(tables, facts):
        fact = ' '.join(fact.split())
        if was and was[1] != machine() and ' on ' not in fact:
            fact += f', on {was[1]}'
        found[re.match(r'\* (\w+)', fact)[1]] = table, fact
    return found


def write(results, path):
    tables, facts, before = [], [f'* {machine()}'], kept(path)
    facts.append('* ' + ', '.join(f'{p} {version(p)}' for p in (
        'nova-compute', 'rabbitmq-server', 'libvirt-daemon', 'qemu-system-x86',
        'openvswitch-switch', 'python3-oslo.messaging') if version(p)))
    for part, add in ADD.items():
        if part not in results:
            if part in before:
                tables.append(before[part][0])
                facts.append(before[part][1])
            continue
        t, r = Table(), results[part]
        add(t, r)
        tables.append('\n'.join(t.lines) + '\n')
        facts.append(f'* {part}: {r["at"]}, commit {r["commit"]}, load average of the machine '
                     f'{r["load"][0]:.1f} before and {r["load"][1]:.1f} after'
                     + (' (--quick)' if r['quick'] else ''))
    with open(path, 'w') as f:
        f.write(TEXT.format(tables='\n'.join(tables), facts='\n'.join(facts),
                            minutes='about 45 minutes'))
