#!/usr/bin/python3
"""ops.py COMMAND ...: operations on the lab's cloud.

  create NAME NN [HOST [IMAGE [FLAVOR [VNIC [NETWORK]]]]]    answers ping at 10.98.0.NN
  delete NAME...
  migrate NAME [HOST] [--block|--shared] [--no-wait]         live; says how it ended
  abort NAME             force-complete NAME                 of the running live migration
  ended NAME [STATUS]                                        waits for the last migration's end
  speed NAME MIB                                             its migrations' speed limit, MiB/s
  stop|start|pause|unpause|suspend|resume|hard-reboot|soft-reboot|rescue|unrescue NAME
  attach NAME NN         detach NAME NN                      a further port
  show NAME              wait NAME STATUS [SECONDS]          wait: no task and that status
  console NAME [LINES]   heartbeat NAME                      read on the host, not by the API
  migrations NAME        events NAME                         rows; action events
  ports NAME             bindings NAME   allocations NAME    OVS; neutron; placement
  services               hypervisor HOST
  leftovers HOST...                                          nothing printed: the host is clean
"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cloud  # noqa: E402

VERBS = {'stop': ({'os-stop': None}, 'SHUTOFF'), 'start': ({'os-start': None}, 'ACTIVE'),
         'pause': ({'pause': None}, 'PAUSED'), 'unpause': ({'unpause': None}, 'ACTIVE'),
         'suspend': ({'suspend': None}, 'SUSPENDED'), 'resume': ({'resume': None}, 'ACTIVE'),
         'hard-reboot': ({'reboot': {'type': 'HARD'}}, 'ACTIVE'),
         'soft-reboot': ({'reboot': {'type': 'SOFT'}}, 'ACTIVE'),
         'rescue': ({'rescue': {}}, 'RESCUE'), 'unrescue': ({'unrescue': None}, 'ACTIVE')}


def rows(found):
    for row in found:
        print(json.dumps(row, default=str))


def report(name, m, s, started=None):
    took = f' in {time.time() - started:.1f} s' if started else ''
    print(f'{name}: migration {m["status"]} {m["source_compute"]} -> {m["dest_compute"]}{took}, '
          f'server {s["status"]} on {s["host"]}')


def migrate(name, *args):
    host = next((a for a in args if not a.startswith('-')), None)
    block = True if '--block' in args else False if '--shared' in args else 'auto'
    started = time.time()
    before = cloud.migrate(name, host, block)
    if '--no-wait' not in args:
        m, s = cloud.ended(name, before)
        report(name, m, s, started)
        return m['status'] != 'completed'


def ended(name, want='completed'):
    last = cloud.migrations(name)[-1]['id']
    m, s = cloud.ended(name, last - 1)
    report(name, m, s)
    return m['status'] != want


def attach(name, number):
    number = int(number)
    net = cloud.call('network', 'GET', '/networks?name=flat')['networks'][0]['id']
    port = cloud.call('network', 'POST', '/ports', {'port': {
        'network_id': net, 'name': f'{name}-{number}',
        'mac_address': f'fa:16:3e:00:00:{number:02x}',
        'fixed_ips': [{'ip_address': f'10.98.0.{number}'}]}})['port']['id']
    cloud.call('compute', 'POST', f'/servers/{cloud.find(name)}/os-interface',
               {'interfaceAttachment': {'port_id': port}})


def detach(name, number):
    path = f'/ports?name={name}-{number}'
    port = cloud.call('network', 'GET', path)['ports'][0]['id']
    cloud.call('compute', 'DELETE', f'/servers/{cloud.find(name)}/os-interface/{port}')
    cloud.until(60, 'detach', lambda: not any(
        p['device_id'] for p in cloud.call('network', 'GET', path)['ports']))
    cloud.request('network', 'DELETE', f'/ports/{port}')


def speed(name, mib):
    s = cloud.show(name)
    cloud.virsh(s['host'], 'migrate-setspeed', s['id'], mib)


def leftovers(*hosts):
    found = [f'{h}: {line}' for h in hosts for line in cloud.leftovers(h)]
    for line in found:
        print(line)
    return bool(found)


def verb(command, name):
    body, status = VERBS[command]
    cloud.action(name, body)
    cloud.wait(name, status, 150)


def answer(r):
    print(f'HTTP {r.status_code} {r.text.strip()}')
    return r.status_code >= 300


def main(command=None, *args):
    commands = {
        'create': lambda *a: rows([cloud.create(*a)]),
        'delete': lambda *a: [cloud.delete(n) for n in a] and None,
        'migrate': migrate, 'ended': ended, 'attach': attach, 'detach': detach, 'speed': speed,
        'abort': lambda n: answer(cloud.abort(n)),
        'force-complete': lambda n: answer(cloud.force_complete(n)),
        'show': lambda n: rows([cloud.show(n)]),
        'wait': lambda n, want, limit=120: rows([cloud.wait(n, want, float(limit))]),
        'console': lambda n, lines=20: print(cloud.console(n, int(lines)), end=''),
        'heartbeat': lambda n: print(*cloud.heartbeat(n) or ('none',)),
        'migrations': lambda n: rows(cloud.migrations(n)),
        'events': lambda n: rows(cloud.events(n)),
        'ports': lambda n: rows(cloud.ports(n)),
        'bindings': lambda n: rows(cloud.bindings(n)),
        'allocations': lambda n: rows(cloud.allocations(n)),
        'services': lambda: rows(cloud.services()),
        'hypervisor': lambda h: print(json.dumps(cloud.hypervisor(h), indent=1)),
        'leftovers': leftovers}
    try:
        if command in VERBS and len(args) == 1:
            return verb(command, *args)
        if command not in commands:
            return __doc__
        return commands[command](*args)
    except cloud.Failed as e:
        return f'error: {e}'


sys.exit(main(*sys.argv[1:]))
