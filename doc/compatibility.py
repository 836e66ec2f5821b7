#!/usr/bin/python3
"""Prints doc/compatibility.md from the tables of the source:

    doc/compatibility.py > doc/compatibility.md

Verbs come from rpc/amqp/compute_api.def and driver/compute/handlers.def, options from base/conf*.def,
what the tables cannot know from doc/compatibility.def.  Whether an option has an effect is looked
for in the source: something must read it.
"""
import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parents[1]
STATUS = {'SAME': 'same', 'DIFFERENT': 'different', 'REFUSED': 'refused'}
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[(),{}]|[^"(),{}]+')
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def value(text):
    """An argument of a row: the text of its string literals, or what stands there."""
    strings = STRING.findall(text)
    return ''.join(strings) if strings else ' '.join(text.split())


def rows(path, macro):
    """Rows MACRO(a, b, ...) of a table whose macro matches: (macro, [arguments])."""
    text = re.sub(r'/\*.*?\*/', '', (TOP / path).read_text(), flags=re.S)
    text = re.sub(r'^\s*#(?:.*\\\n)*.*$', '', text, flags=re.M)
    for start in re.finditer(r'\b(%s)\(' % macro, text):
        depth, args = 0, ['']
        for token in TOKEN.finditer(text, start.end()):
            t = token[0]
            if t == ')' and depth == 0:
                break
            depth += (t in '({') - (t in ')}')
            if t == ',' and depth == 0:
                args.append('')
            else:
                args[-1] += t
        yield start[1], [value(a) for a in args]


def notes(macro, n_keys):
    """Rows of doc/compatibility.def: what they are about to (status, note)."""
    found = {}
    for _, args in rows('doc/compatibility.def', macro):
        key = args[0] if n_keys == 1 else tuple(args[:n_keys])
        if key in found:
            raise SystemExit(f'doc/compatibility.def: {macro} {key} is there twice')
        found[key] = (STATUS[args[n_keys]], args[n_keys + 1])
    return found


# ---- Verbs ----

def verbs():
    """(name, since, status, note), in the order of the table."""
    built = {args[0] for _, args in rows('driver/compute/handlers.def', 'HANDLER')}
    special = notes('VERB', 1)
    for _, (name, since, *_) in rows('rpc/amqp/compute_api.def', 'RPC_METHOD'):
        plain = ('same', '') if name in built else ('refused', '`NotImplementedError`')
        yield (name, since, *special.pop(name, plain))
    if special:
        raise SystemExit(f'doc/compatibility.def: no such verb: {", ".join(special)}')


# ---- Options ----

class Source:
    """What reads options: every file but those that hold or check the table."""

    def __init__(self):
        self.text = ''.join(
            p.read_text() for folder in ('base', 'rpc', 'vif', 'pci', 'driver')
            for p in sorted((TOP / folder).rglob('*.*'))
            if p.suffix in ('.c', '.h', '.def') and not p.name.startswith(('conf_', 'conf.def')))
        self.tables = ''.join(p.read_text() for p in sorted((TOP / 'base').glob('conf*.def')))
        self.rest = ''.join((TOP / 'rpc/rest' / f).read_text()
                            for f in ('session_conf.c', 'session.c', 'keystone.c'))
        self.bus = {args[1] for _, args in rows('rpc/amqp/options.def', 'MQ_OPT|MQ_OPT_LATER')}

    def reads(self, member, name):
        if not self.has_client(member):
            return False
        return (re.search(r'\b%s\.%s\b' % (member, name), self.text) or
                re.search(r'"[^"]*\$%s\b' % name, self.tables) or  # Part of another's default.
                member == 'oslo_messaging_rabbit' and name in self.bus)

    def has_client(self, member):
        """Whether the service of a group is talked to; true for groups of no service."""
        return (f'CONF_CLIENT({member})' not in self.tables or
                re.search(r'\brest_session_new\([^;]*"%s"|\b%s\.client\b' % (member, member),
                          self.text))

    def reads_client(self, member, kind, name):
        """Images are asked for with the token of the user, or of [service_user]."""
        return (self.has_client(member) and (kind, member) != ('auth', 'glance') and
                (name == 'auth_section' or re.search(r'(->|\.)%s\b' % name, self.rest)))


def client_options():
    for kind in ('adapter', 'auth', 'session'):
        for _, args in rows(f'base/conf_client_{kind}.def', r'CONF_C_(?:BOOL|INT|FLOAT|STR|LIST)'):
            yield kind, args[0], args[2]


def options():
    """Groups in the order of the tables: {group: {kind: [names]}}."""
    source, special = Source(), notes('OPTION', 2)
    groups, member, group = {}, None, None

    def add(name, flags, is_read):
        kind = ('noted' if (group, name) in special else
                'ignored' if 'CONF_IGNORED' in flags else 'read' if is_read else 'unread')
        groups.setdefault(group, {}).setdefault(kind, []).append(name)

    kinds = r'CONF_(?:GROUP|CLIENT|BOOL|INT|FLOAT|STR|LIST|MULTI|DICTS)'
    for path in ('default', 'libvirt', 'services', 'misc', ''):
        for macro, args in rows(f'base/conf_{path}.def' if path else 'base/conf.def', kinds):
            if macro == 'CONF_GROUP':
                member, group = args[:2]
            elif macro == 'CONF_CLIENT':
                for kind, name, flags in client_options():
                    add(name, flags, source.reads_client(member, kind, name))
            else:
                add(args[1], args[3], source.reads(member, args[1]))
    for _, args in rows('base/conf_other.def', 'CONF_OTHER'):
        kind = 'elsewhere' if 'CONF_ELSEWHERE' in args[4] else 'unknown'
        kind = 'noted' if tuple(args[:2]) in special else kind
        groups.setdefault(args[0], {}).setdefault(kind, []).append(args[1])
    missing = [k for k in special if k[1] not in groups.get(k[0], {}).get('noted', ())]
    if missing:
        raise SystemExit(f'doc/compatibility.def: no such option: {missing}')
    return groups, special


# ---- The page ----

HEAD = """# Compatibility

What a cloud may ask of a compute service, and whether novashim answers as `nova-compute` of Zed
(26.2.2) with libvirt does. Written by `doc/compatibility.py` from the tables of the source: change
those, or `doc/compatibility.def`, and run it again.

* **same**: as nova-compute, as far as a user, an operator or another service can see.
* **different**: works, but otherwise; the note says how.
* **refused**: fails at once by the exception that is named, and the server stays as it was.
"""

OPTION_KINDS = (
    ('read', 'with effect'),
    ('noted', 'with a note, see below'),
    ('ignored', 'ignored on purpose, the reason is in `novashim.conf(5)`'),
    ('unread', 'accepted, without effect so far'),
    ('unknown', 'named in the log when set: without effect'),
    ('elsewhere', 'of other services of Nova: no matter to a compute service'),
)


def table(head, lines):
    print('|' + '|'.join(head) + '|')
    print('|' + '---|' * len(head))
    for line in lines:
        print('|' + '|'.join(str(x).replace('|', '\\|') for x in line) + '|')


def print_options():
    groups, special = options()
    counts = {k: sum(len(g.get(k, ())) for g in groups.values()) for k, _ in OPTION_KINDS}

    print('\n## Options\n')
    print('Every option of Nova\'s services is known by name. Defaults, types, ranges and old names '
          'are Nova\'s\n(`tests/config` compares them).\n')
    table(('', 'options'), ((what, counts[kind]) for kind, what in OPTION_KINDS))
    print()
    table(('option', '', 'note'), ((f'`[{g}]{n}`', *note) for (g, n), note in special.items()))
    for kind, what in OPTION_KINDS:
        if kind not in ('noted', 'elsewhere'):
            print(f'\n### Options: {what}\n')
            for group in groups:
                names = groups[group].get(kind)
                if names:
                    print(f'* `[{group}]`: ' + ', '.join(f'`{n}`' for n in names))


def main():
    print(HEAD)
    print('## Verbs of the compute API\n')
    print('"refused" with `NotImplementedError` is what Nova answers for what a driver cannot do: the '
          'action\'s\nevent ends in error, a fault is recorded, and the task state goes back.\n')
    table(('verb', 'since', '', 'note'), ((f'`{name}`', *rest) for name, *rest in verbs()))
    for title, macro in (('Extra specs of flavors', 'EXTRA_SPEC'),
                         ('Properties of images', 'IMAGE_PROP')):
        print(f'\n## {title}\n')
        table(('name', '', 'note'), ((f'`{name}`', *note) for name, note in notes(macro, 1).items()))
    print_options()


if __name__ == '__main__':
    main()
