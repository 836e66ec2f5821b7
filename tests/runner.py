"""tests/run [--full] [--list] [SUITE...]: runs the suites and counts their tests.

A suite is one or more programs that print TAP (ok, not ok, # SKIP reason).  Each has a time limit and
a log below build/test-logs; what fails shows the end of its log.  Without SUITE: all.  --full also
runs what takes long (the whole matrix of the lab's suite).
"""
import glob
import os
import re
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(TOP, 'build', 'test-logs')
TAP = re.compile(r'^(ok|not ok)\b(.*)$')
NONE = re.compile(r'^1\.\.0\s+#\s*SKIP\b\s*(.*)$', re.I)  # a whole program that cannot run here
SKIP = re.compile(r'#\s*SKIP\b\s*(.*)', re.I)
FULL = '--full' in sys.argv

# What a suite is without --full if it takes longer than all the others together.
LONG = [['echo', '1..0 # SKIP only with --full: it takes more than half an hour']]

# Suites in order: name, minutes, what it runs (functions below give lists of commands).
SUITES = []


def suite(minutes):
    def add(fn):
        SUITES.append((fn.__name__, minutes, fn))
        return fn
    return add


def path(*parts):
    return os.path.join(TOP, *parts)


def script(name, *args):
    """A suite's script, if the tree has it."""
    return [[path('tests', *name.split('/')), *args]] if os.path.exists(path('tests', *name.split('/'))) else []


@suite(20)
def build():
    return [[path('tests', 'build-preset'), p] for p in ('release', 'asan', 'tsan', 'clang')]


@suite(2)
def style():
    return [[p] for p in sorted(glob.glob(path('tests', 'style', '*'))) if os.access(p, os.X_OK)]


@suite(5)
def unit():
    return [[p] for p in sorted(glob.glob(path('build', 'asan', 'tests', 'test_*')))]


@suite(5)
def tsan():
    return [[p] for p in sorted(glob.glob(path('build', 'tsan', 'tests', 'test_*')))]


@suite(5)
def fuzz():
    return [[path('tests', 'ctest-label'), 'asan', 'fuzz']]


@suite(2)
def install():
    return script('install/run')


@suite(5)
def objects():
    return [*script('objects/run', path('build/asan/tests/objects/ovo_tool')), *script('golden/guest_make/record', '--check')]


@suite(5)
def config():
    return script('config/run', path('build/asan/tests/config/conf_dump'), path('build/asan/etc/novashim.conf.sample'))


@suite(8)
def interop():
    return script('interop/run', path('build/asan/tests/interop/interop_peer'))


@suite(5)
def vif():
    return script('vif/run', path('build/asan/tests/vif/vif_peer'))


@suite(5)
def rest():
    return script('rest/run', path('build/asan/tests/rest/rest_peer'))


@suite(8)
def libvirt():
    return script('libvirt/run', path('build/asan/tests/libvirt/lv_drive'), *(path(f'build/asan/tests/libvirt/guest-{g}.elf') for g in ('dirty', 'idle')))


@suite(8)
def daemon():
    return script('daemon/run')


@suite(120 if FULL else 45)
def lab():
    return script('lab/suite', *(['--full'] if FULL else []))


@suite(90)
def life():
    return script('lab/life', '--full') if FULL else LONG


@suite(90)
def crash():
    return script('lab/crash', '--full') if FULL else LONG


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.bad, self.skips = [], []

    def line(self, text):
        none = NONE.match(text)
        if none:
            self.skipped += 1
            self.skips.append(f'all of it: {none.group(1)}')
        m = TAP.match(text)
        if not m:
            return
        s = SKIP.search(m.group(2))
        name = m.group(2).strip(' -0123456789') or text
        if s:
            self.skipped += 1
            self.skips.append(f'{name.split("#")[0].strip()}: {s.group(1)}')
        elif m.group(1) == 'ok':
            self.passed += 1
        else:
            self.failed += 1
            self.bad.append(name)


def run_command(cmd, count, log, deadline):
    """Runs one program; its exit status counts as a failure of its own if no test says why."""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT='TAP', ASAN_OPTIONS='detect_leaks=1', TSAN_OPTIONS='halt_on_error=0')
    failed_before = count.failed
    log.write(f'$ {" ".join(cmd)}\n')
    log.flush()
    p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
                         cwd=TOP, start_new_session=True)
    timed_out = False

    def stop(*_):
        nonlocal timed_out
        timed_out = True
        os.killpg(p.pid, signal.SIGTERM)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(max(1, int(deadline - time.time())))
    for raw in p.stdout:
        text = raw.decode('utf-8', 'replace')
        log.write(text)
        count.line(text.rstrip('\n'))
    try:
        rc = p.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        rc = p.wait()
    signal.alarm(0)
    if timed_out:
        count.failed += 1
        count.bad.append(f'{os.path.basename(cmd[0])} took too long')
    elif rc != 0 and count.failed == failed_before:
        count.failed += 1
        count.bad.append(f'{os.path.basename(cmd[0])} ended with status {rc}')
    log.flush()


def tail(file, n=40):
    with open(file, errors='replace') as f:
        lines = f.read().splitlines()
    bad = [x for x in lines if x.startswith('not ok') or x.startswith('# ')]
    return (bad[:30] if bad else []) + lines[-n:]


def run_suite(name, minutes, fn):
    commands = fn()
    if not commands:
        return None
    count, start = Count(), time.time()
    print(f'--- {name}', flush=True)
    file = os.path.join(LOGS, f'{name}.log')
    with open(file, 'w') as log:
        for cmd in commands:
            run_command(cmd, count, log, start + 60 * minutes)
    if count.passed + count.failed + count.skipped == 0:
        count.failed += 1
        count.bad.append('no test ran')
    if count.failed:
        print('\n'.join('    ' + x for x in tail(file)))
        print(f'    ... all of it: {os.path.relpath(file, TOP)}')
    for s in count.skips:
        print(f'    SKIPPED {s}')
    print(f'    {count.passed} passed, {count.failed} failed, {count.skipped} skipped in {time.time() - start:.0f} s',
          flush=True)
    return name, count, time.time() - start


def main():
    wanted = [a for a in sys.argv[1:] if not a.startswith('-')]
    if '--help' in sys.argv:
        print(__doc__)
        return 0
    unknown = set(wanted) - {s[0] for s in SUITES}
    if unknown or '--list' in sys.argv:
        print('suites:', ' '.join(s[0] for s in SUITES))
        return 2 if unknown else 0
    os.makedirs(LOGS, exist_ok=True)
    rows = [r for r in (run_suite(*s) for s in SUITES if not wanted or s[0] in wanted) if r]
    print(f'\n{"suite":<12}{"passed":>8}{"failed":>8}{"skipped":>9}{"seconds":>9}')
    for name, c, took in rows:
        print(f'{name:<12}{c.passed:>8}{c.failed:>8}{c.skipped:>9}{took:>9.0f}')
    for name, c, _ in rows:
        for b in c.bad:
            print(f'FAILED {name}: {b}')
    total = [sum(getattr(c, k) for _, c, _ in rows) for k in ('passed', 'failed', 'skipped')]
    print('\n%d passed, %d failed, %d skipped' % tuple(total), flush=True)
    return 1 if total[1] or not total[0] else 0


if __name__ == '__main__':
    sys.exit(main())
