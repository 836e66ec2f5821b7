"""The lab's two hosts as the parts of bench.py use them: which service runs where, and how."""
import contextlib
import sys
import time

import cloud

KINDS = ('debian', 'novashim')
HOSTS = ('host-a', 'host-b')
ON = {'debian': 'host-a', 'novashim': 'host-b'}  # when both run
QUICK = '--quick' in sys.argv
QUIET = '[DEFAULT]\ndebug = false\n'  # as they are measured, if nothing else is said


def say(text):
    print(f'[{time.strftime("%T")}] {text}')


def times(full, quick):
    return quick if QUICK else full


def pid(host):
    return cloud.pid_of(f'{host}/compute')


def runs(host):
    """Which of the two really runs on a host."""
    with open(f'/proc/{pid(host)}/cmdline') as f:
        return 'debian' if 'nova-compute' in f.read().split('--')[0] else 'novashim'


def run_kind(host, kind):
    cloud.script('compute', host, 'restart', kind)
    if runs(host) != kind:
        raise cloud.Failed(f'{host} runs {runs(host)}, not {kind}')


def both():
    """One service on each host, settled."""
    if all(pid(h) and runs(h) == k for k, h in ON.items()):
        return
    for kind in KINDS:
        run_kind(ON[kind], kind)
    time.sleep(times(75, 15))  # beyond the first periodic jobs


def configure(text=QUIET):
    """Both hosts up with shared disks and this at the end of their nova.conf."""
    extra = f'{cloud.RUN}/bench.conf'
    with open(extra, 'w') as f:
        f.write(text)
    for h in HOSTS:
        here = {'COMPUTE': runs(h)} if pid(h) else {'COMPUTE': 'debian'}
        cloud.script('host-up', h, env={**here, 'INSTANCES': 'shared', 'DPDK': 'yes', 'POSTCOPY': 'false',
                                        'VIRT': 'qemu', 'HTTP_LOG': '', 'NOVA_EXTRA': extra})


@contextlib.contextmanager
def quotas_off():
    """As many servers as a part wants."""
    path, quotas = '/os-quota-class-sets/default', ('instances', 'cores', 'ram')
    were = cloud.call('compute', 'GET', path)['quota_class_set']
    cloud.call('compute', 'PUT', path, {'quota_class_set': dict.fromkeys(quotas, -1)})
    try:
        yield
    finally:
        cloud.call('compute', 'PUT', path, {'quota_class_set': {q: were[q] for q in quotas}})


def settings(host):
    """What a host was brought up with; empty if it is down."""
    try:
        with open(f'{cloud.RUN}/{host}/settings') as f:
            return dict(line.rstrip('\n').split('=', 1) for line in f)
    except FileNotFoundError:
        return {}
