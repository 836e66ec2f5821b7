"""update_available_resource of each of the two services, with the same many servers on the same host."""
import json
import re
import socket
import time

import cloud
import life
import measure
from hosts import KINDS, configure, pid, quotas_off, run_kind, say, times

HOST, FLAVOR, NAME = 'host-b', 'bench.crowd', 'bench-crowd'
EVERY = 10  # seconds between audits
# Room for the servers; and nova-compute tells of its audits only in its debug log
CONF = f'[DEFAULT]\ndebug = true\ncpu_allocation_ratio = 100\nupdate_resources_interval = {EVERY}\n'
STAMP = r'(\S+ \d+:\d+:\d+\.\d+) '


def seconds(stamp):
    whole, fraction = stamp.split('.')
    return time.mktime(time.strptime(whole, '%Y-%m-%d %H:%M:%S')) + float(f'.{fraction}')


def said_by_debian(text):
    """Seconds from "Auditing" to the release of the lock, for each audit."""
    found, began = [], None
    for line in text.splitlines():
        if m := re.match(STAMP + r'.*Auditing locally available compute resources', line):
            began = seconds(m[1])
        elif began and (m := re.match(STAMP + r'.*"compute_resources" "?released"? by '
                                      r'.*_update_available_resource', line)):
            found.append(seconds(m[1]) - began)
            began = None
    return found


def ask_novashim():
    """What its control socket says of its resources: the last audit's length, in it."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(f'{cloud.root(HOST)}/run/novashim/control.sock')
        s.sendall(b'{"command": "status"}\n')
        return json.loads(s.makefile().readline())


def heard_of_debian():
    """Asked again and again: what all audits since now took."""
    with open(f'{cloud.LOG}/{HOST}/compute.log', errors='replace') as f:
        f.seek(0, 2)
        text = ''
        while True:
            text += f.read()
            yield said_by_debian(text)


def heard_of_novashim():
    found, age = [], ask_novashim()['resources']['seconds_since_audit']
    while True:
        r = ask_novashim()['resources']
        if r['seconds_since_audit'] < age:
            found.append(r['audit_took_ms'] / 1000)
        age = r['seconds_since_audit']
        yield found


def audits(kind, n):
    """What n audits took in seconds, by the service's own word."""
    heard = heard_of_debian() if kind == 'debian' else heard_of_novashim()
    return cloud.until(120 + 3 * EVERY * n, f'{n} audits of {kind}',
                       lambda: (lambda found: found if len(found) >= n else None)(next(heard)))


def flavor():
    """16 MiB in hugepages: a hundred of them fit."""
    if not any(f['name'] == FLAVOR for f in cloud.call('compute', 'GET', '/flavors')['flavors']):
        made = cloud.call('compute', 'POST', '/flavors', {'flavor': {
            'name': FLAVOR, 'ram': 16, 'vcpus': 1, 'disk': 1}})['flavor']['id']
        cloud.call('compute', 'POST', f'/flavors/{made}/os-extra_specs',
                   {'extra_specs': {'hw:mem_page_size': 'large'}})
    return next(f['id'] for f in cloud.call('compute', 'GET', '/flavors')['flavors'] if f['name'] == FLAVOR)


def some(n, i):
    """n servers that were built and stopped."""
    name = f'{NAME}-{i}'
    cloud.call('compute', 'POST', '/servers', {'server': {
        'name': name, 'imageRef': cloud.image('blank'), 'flavorRef': flavor(), 'networks': 'none',
        'host': HOST, 'min_count': n, 'max_count': n}})

    def in_state(state):
        rows = cloud.sql('nova', 'select uuid, vm_state, task_state from instances where deleted=0 and '
                         'display_name like %s', f'{name}-%')
        return len(rows) == n and all((r['vm_state'], r['task_state']) == (state, None) for r in rows) and rows
    for server in cloud.until(300, f'{n} servers', lambda: in_state('active')):
        cloud.call('compute', 'POST', f'/servers/{server["uuid"]}/action', {'os-stop': None})
    cloud.until(300, f'{n} servers stopped', lambda: in_state('stopped'))
    say(f'{name}: {n} servers')


def measured(kind, found):
    run_kind(HOST, kind)
    audits(kind, 2)  # its start is over
    libvirtd = cloud.pid_of(f'{HOST}/libvirtd')
    before = measure.cpu(pid(HOST)), measure.cpu(libvirtd)
    taken = audits(kind, times(6, 2))
    spent = measure.cpu(pid(HOST)) - before[0], measure.cpu(libvirtd) - before[1]
    found['took'][kind] += taken
    found['cpu'][kind].append(spent[0] / len(taken))
    found['libvirt'][kind].append(spent[1] / len(taken))
    for what, value in measure.memory(pid(HOST)).items():
        found[what][kind].append(value)
    say(f'{kind}: audits {", ".join(f"{t:.2f}" for t in taken)} s; CPU of one {spent[0] / len(taken):.3f} s')


def audit():
    n = times(100, 20)
    found = {what: {k: [] for k in KINDS}
             for what in ('took', 'cpu', 'libvirt', 'rss', 'pss', 'threads', 'processes')}
    configure(CONF)
    try:
        with quotas_off():
            run_kind(HOST, 'novashim')
            audits('novashim', 1)  # placement knows of the room
            for i in range(n // 10):
                some(10, i)
            for _ in range(times(2, 1)):
                for kind in KINDS:
                    measured(kind, found)
        return {**found, 'servers': n}
    finally:
        run_kind(HOST, 'novashim')
        life.forget(*life.names_of(NAME))
        configure()
