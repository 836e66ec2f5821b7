#!/usr/bin/python3
"""Compares our reading of configuration files with oslo.config's: TAP on standard output.

    compare.py CONF_DUMP SAMPLE

Every case in corpus/ is a file, or a directory with a file 'args' (the command line, run in that
directory) and perhaps a file 'env' (NAME=VALUE lines).  oslo.config reads it with the options that
the installed Nova registers.  For each option both must give the same value or both refuse; a file
that cannot be read must be refused by both.

Where we refuse on purpose what oslo.config takes, the case says so in a comment:

    # stricter: [GROUP]NAME ...       or, for the whole file,       # stricter: file
"""
import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

os.environ.pop('OSLO_LOCK_PATH', None)

import nova_options  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE / 'corpus'
OTHERS = HERE.parent.parent / 'base' / 'conf_other.def'
# Defaults that Nova finds out at start, and the one that every distribution sets.
COMPUTED = {'host': 'HOST', 'console_host': 'HOST', 'my_ip': 'MY_IP'}
STATE_PATH = '/var/lib/nova'

DUMP, SAMPLE = sys.argv[1:]


class Tap:
    def __init__(self):
        self.n = self.failed = 0

    def result(self, name, problems):
        self.n += 1
        self.failed += bool(problems)
        print('%sok %d - %s' % ('not ' if problems else '', self.n, name))
        for problem in problems:
            print('#   ' + problem)


def table():
    lines = subprocess.run([DUMP, '--table'], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


# ---- Values ----

def oslo_value(conf, row):
    """The value of an option, or an Exception."""
    from keystoneauth1 import loading
    group, name = row['group'], row['name']
    try:
        if name in nova_options.auth_options() and name != 'auth_section':
            section = conf[group].auth_section
            if section:
                # What keystoneauth does when it loads a plugin.
                nova_options.register(conf, loading.get_auth_common_conf_options(), section)
                for auth_type in nova_options.AUTH_TYPES:
                    nova_options.register(
                        conf, loading.get_auth_plugin_conf_options(auth_type), section)
                group = section
        return conf[name] if group == 'DEFAULT' else conf[group][name]
    except Exception as e:
        return e


def oslo_values(conf, rows, args):
    """{name: value or Exception}, or an Exception when the whole is refused."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            conf(args, project='nova', prog='nova-compute')
    except (Exception, SystemExit) as e:
        return e
    for name, value in COMPUTED.items():
        conf.set_default(name, value)
    conf.set_default('state_path', STATE_PATH)
    return {'[%(group)s]%(name)s' % row: oslo_value(conf, row)
            for row in rows if row['group'] != 'novashim'}


def is_error(ours):
    return isinstance(ours, dict) and 'error' in ours


def same(row, theirs, ours):
    if is_error(ours):
        return isinstance(theirs, Exception)
    if isinstance(theirs, Exception):
        return False
    if row['type'] in ('LIST', 'MULTI', 'DICTS'):
        return (theirs or []) == ours
    return theirs == ours and isinstance(theirs, bool) == isinstance(ours, bool)


def case_of(path):
    """Command line, environment and the names for which we may be stricter."""
    env = {}
    args = ['--config-file', str(path)]
    text = path
    if path.is_dir():
        text = path / 'args'
        args = [a for a in text.read_text().split('\n') if a and not a.startswith('#')]
        if (path / 'env').exists():
            env = dict(line.split('=', 1) for line in (path / 'env').read_text().splitlines())
    stricter = re.findall(rb'# stricter: (.*)', text.read_bytes())
    return args, env, stricter[0].decode().split() if stricter else []


def compare_case(conf, rows, path):
    args, env, stricter = case_of(path)
    os.chdir(path if path.is_dir() else CORPUS)
    before = dict(os.environ)
    os.environ.update(env)
    try:
        theirs = oslo_values(conf, rows, args)
        run = subprocess.run([DUMP] + args, capture_output=True, text=True)
    finally:
        os.environ.clear()
        os.environ.update(before)
    if run.returncode:
        return ['conf_dump died with %d: %s' % (run.returncode, run.stderr)]
    ours = json.loads(run.stdout)
    if 'refused' in ours:
        if isinstance(theirs, BaseException) or stricter == ['file']:
            return []
        return ['only we refuse it: %s' % ours['refused']]
    if isinstance(theirs, BaseException):
        # oslo.config looks at options of the command line at once, and we at all of them.
        if any(is_error(ours['[%(group)s]%(name)s' % row]) for row in rows if row['cli']):
            return []
        return ['only oslo.config refuses it: %r' % theirs]
    problems = []
    for row in rows:
        name = '[%(group)s]%(name)s' % row
        if row['group'] == 'novashim' or same(row, theirs[name], ours[name]):
            continue
        if name in stricter and is_error(ours[name]):
            continue
        problems.append('%s: oslo.config %r, we %r' % (name, theirs[name], ours[name]))
    return problems


# ---- The table ----

def compare_row(row, opt, default):
    """What our row says otherwise than Nova's registration."""
    group, name = row['group'], row['name']
    kind = nova_options.kind(opt)
    item = getattr(opt.type, 'item_type', opt.type)
    choices = [str(c) for c in getattr(item, 'choices', None) or [] if c is not None]
    ours = {'type': 'MULTI' if row['type'] == 'DICTS' else row['type'], 'min': row['min'],
            'max': row['max'], 'choices': row['choices'], 'old': sorted(row['old']),
            'secret': row['secret']}
    theirs = {'type': kind, 'min': getattr(opt.type, 'min', None),
              'max': getattr(opt.type, 'max', None), 'choices': choices,
              'old': sorted('[%s]%s' % old for old in nova_options.old_names(opt, group)),
              'secret': opt.secret}
    if not row['computed'] and name != 'state_path':
        ours['default'], theirs['default'] = row['default'], nova_options.default_text(default)
    problems = ['[%s]%s: %s: Nova %r, we %r' % (group, name, key, theirs[key], ours[key])
                for key in ours if ours[key] != theirs[key]]
    if opt.mutable and not row['mutable']:
        problems.append('[%s]%s: Nova can change it at run time' % (group, name))
    return problems


def compare_table(conf, rows):
    known = {(group, name): (opt, default)
             for group, name, opt, default in nova_options.options(conf)}
    problems = []
    for row in rows:
        if row['group'] == 'novashim':
            continue
        if (row['group'], row['name']) in known:
            problems += compare_row(row, *known[row['group'], row['name']])
        else:
            problems.append('[%(group)s]%(name)s: Nova has no such option' % row)
    return problems


def compare_others(conf, rows):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        nova_options.print_others(conf, {(row['group'], row['name']) for row in rows})
    ours, theirs = OTHERS.read_text().splitlines(), out.getvalue().splitlines()
    return (['only in base/conf_other.def: ' + line for line in ours if line not in theirs] +
            ['only in Nova: ' + line for line in theirs if line not in ours])


def compare_sample():
    """The sample file with all its comments taken off must say the defaults."""
    text = pathlib.Path(SAMPLE).read_text()
    text = re.sub('^#([a-z_]+ =) <.*>$', '', text, flags=re.M)
    text = re.sub('^#([a-z_]+ =)', r'\1', text, flags=re.M)
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as f:
        f.write(text)
        f.flush()
        sample, empty = (
            json.loads(subprocess.run([DUMP, '--config-file', path], check=True,
                                      capture_output=True, text=True).stdout)
            for path in (f.name, '/dev/null'))
    return ['%s: sample %r, default %r' % (name, sample.get(name), empty[name])
            for name in empty if sample.get(name) != empty[name]]


def main():
    tap = Tap()
    rows = table()
    with tempfile.TemporaryDirectory() as home:
        os.environ['HOME'] = home
        conf = nova_options.load()
        tap.result('types, defaults, limits and old names are those of Nova',
                   compare_table(conf, rows))
        tap.result('base/conf_other.def has the other options of Nova', compare_others(conf, rows))
        tap.result('the sample file says the defaults', compare_sample())
        for path in sorted(CORPUS.iterdir()):
            tap.result('corpus/' + path.name, compare_case(conf, rows, path))
        os.chdir('/')
    print('1..%d' % tap.n)
    return 1 if tap.failed else 0


sys.exit(main())
