"""Programs that test in the lab and print TAP: what suite and life have in common."""
import argparse
import os
import shutil
import subprocess
import sys
import time
import traceback

import cloud
from cloud import A, B, Failed, script, until

LAB = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(LAB))
NOVASHIM = os.environ.setdefault('NOVASHIM', os.path.join(TOP, 'build', 'release', 'driver', 'novashim'))
NOVASHIMCTL = os.path.join(os.path.dirname(NOVASHIM), 'novashimctl')
TESTS = []


class Skip(Exception):
    """What kept a test from telling anything; the text says what."""


def test(fn):
    TESTS.append(fn)
    return fn


def full(fn):
    """Only with --full."""
    fn.is_full = True
    return test(fn)


def check(condition, text):
    if not condition:
        raise Failed(text)


def options(doc, flags=(), **more):
    """The command line: what every such program takes, and further flags and options with defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('full', 'keep', *flags):
        parser.add_argument(f'--{name}', action='store_true')
    for name, default in more.items():
        parser.add_argument(f'--{name}', default=default)
    parser.add_argument('tests', nargs='*', metavar='TEST')
    return parser.parse_args()


# ---- The lab's hosts and services

def compute(host, verb, kind='novashim', **env):
    return script('compute', host, verb, kind, env=env, timeout=180)


def on_both(name, *args, timeout=300, env=None):
    """One of the lab's scripts for both hosts, side by side."""
    running = [subprocess.Popen([os.path.join(LAB, name), h, *args], stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
               for h in (A, B)]
    for p in running:
        out = p.communicate(timeout=timeout)[0]
        check(p.returncode == 0, f'{name} {" ".join(args)}: {out[-600:]}')


def both(kind):
    """One of the two compute services on both hosts."""
    on_both('compute', 'restart', kind)


def other(host):
    return B if host == A else A


def clean(*hosts, limit=15):
    """Nothing of a server that lives elsewhere is left."""
    left = []

    def nothing():
        left[:] = [f'{h}: {x}' for h in hosts for x in cloud.leftovers(h)]
        return not left
    try:
        until(limit, 'clean', nothing)
    except Failed:
        raise Failed('left behind: ' + '; '.join(left))


def daemon_alive(host):
    check('novashim' in script('compute', host, 'status'), f'{host}: novashim does not run')


def lab_shell(command):
    """A line of shell with the lab's functions."""
    subprocess.run(['bash', '-c', f'. {LAB}/lib.sh; {command}'], stdin=subprocess.DEVNULL, check=True, timeout=120)


# ---- Running them

def cannot():
    """What this machine lacks that no package brings, or None."""
    if os.geteuid():
        return 'it needs root'
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if memory < 7 << 30:
        return f'it needs 8 GiB of memory, not {memory >> 20} MiB'
    for what, command in (
            ('namespaces', 'unshare -nmu true'),
            ('bridges', 'unshare -n ip link add nsprobe type bridge'),
            ('hugetlbfs', 'unshare -m mount -t hugetlbfs hugetlbfs /mnt'),
            ('hugepages', '[ -w /proc/sys/vm/nr_hugepages ]')):
        if subprocess.run(['bash', '-c', command], stdin=subprocess.DEVNULL, capture_output=True).returncode:
            return f'no {what} on this machine'
    return None


def run(fn, opts, begin, mend):
    name = fn.__name__.replace('_', ' ')
    if getattr(fn, 'is_full', False) and not opts.full and fn.__name__ not in opts.tests:
        print(f'ok - {name} # SKIP only with --full: it waits for minutes', flush=True)
        return True
    for attempt in ('first', 'second'):
        start = time.time()
        try:
            try:
                begin()
            except Failed as e:
                print(f'# {name} cannot begin where the tests before it ended, the lab starts over: {e}', flush=True)
                mend()
            fn()
            print(f'ok - {name} ({time.time() - start:.0f} s)', flush=True)
            return True
        except Skip as e:
            print(f'ok - {name} # SKIP {e}', flush=True)
            return True
        except Exception as e:  # a test fails in many ways; all of them are told
            why = str(e) if isinstance(e, Failed) else traceback.format_exc()
        # A dozen services of others take part: one failure is told, two are a failure.
        print(f'not ok - {name}' if attempt == 'second' else f'# {name}: failed, tried once more')
        for line in why.splitlines():
            print(f'#   {line}')
        print(f'#   after {time.time() - start:.0f} s', flush=True)
    return False


def main(opts, lab_up, begin, mend):
    """lab_up() brings the lab up from nothing; begin() raises Failed if what the last test left is no
    ground for the next one; mend() makes it one."""
    start = time.time()
    lacks = cannot()
    if lacks:
        print(f'1..0 # SKIP {lacks}')
        return 0
    logs = os.path.join(TOP, 'build', 'test-logs', os.path.basename(sys.argv[0]))
    try:
        lab_up()
    except Exception as e:
        print(f'not ok - the lab comes up\n#   {e}')
        results = [False]
    else:
        print(f'ok - the lab comes up ({time.time() - start:.0f} s)', flush=True)
        results = [run(t, opts, begin, mend) for t in TESTS if not opts.tests or t.__name__ in opts.tests]
    shutil.rmtree(logs, ignore_errors=True)
    shutil.copytree(cloud.LOG, logs, ignore=shutil.ignore_patterns('sync-*', 'ovs*'))
    if not opts.keep:
        script('control-down', '--wipe', check=False)
    return 0 if all(results) else 1
