"""Servers built, stopped, started, rebooted and given an interface by each of the two services."""
import concurrent.futures
import time

import bare
import cloud
import measure
from hosts import HOSTS, KINDS, ON, QUIET, both, configure, quotas_off, say, times
from libvirt import VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STOPPED

NUMBERS = {'debian': 80, 'novashim': 90}  # of ports: the guest's, the built one's, the attached one's
PLUGGED = 'network-vif-plugged'


class Watch:
    """What is heard while the part runs, and what it says about one operation."""

    def __init__(self, wire, domains):
        self.wire, self.domains = wire, domains

    def waits(self, host, uuid, start, end):
        """When the host waited for neutron: for its answers, and with the guest ready for its agent."""
        spans = cloud.exchanges('neutron', host, start)
        ready = self.domains.first(uuid, VIR_DOMAIN_EVENT_STARTED, start)
        plugs = [s.at for s in self.wire.all(PLUGGED, start, uuid) if s.at <= end]
        return spans + [(ready, plug) for plug in plugs if ready and ready < plug]

    def took(self, host, uuid, asked, begins, ends):
        """{'all': seconds between two messages, 'own': without what the host waited for neutron}."""
        begin = self.wire.wait(begins, asked, uuid)
        end = self.wire.wait(ends, begin.at, begin.call if ends == 'reply' else uuid)
        whole = end.at - begin.at
        return {'all': whole,
                'own': whole - measure.covered(self.waits(host, uuid, begin.at, end.at), begin.at, end.at)}


def forget(*names):
    """Deletes servers with their ports, all at once."""
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(cloud.delete, names))


def build(watch, host, name, number):
    asked = time.time()
    uuid = cloud.create(name, number, host, 'blank', 'lab.tiny', want=None)['id']
    return uuid, watch.took(host, uuid, asked, 'build_and_run_instance', 'saved active, None')


def act(watch, host, uuid, body, begins, ends):
    asked = time.time()
    cloud.action(uuid, body)
    return watch.took(host, uuid, asked, begins, ends)


def attach(watch, host, uuid, port):
    asked = time.time()
    cloud.call('compute', 'POST', f'/servers/{uuid}/os-interface', {'interfaceAttachment': {'port_id': port}})
    return watch.took(host, uuid, asked, 'attach_interface', 'reply')


def turn(watch, kind):
    """A small server from its build to its end, and the other one stopped and started."""
    host, guest, number = ON[kind], f'bench-{kind}', NUMBERS[kind]
    name, found = f'bench-{kind}-one', {}
    try:
        uuid, found['build'] = build(watch, host, name, number + 1)
        cloud.wait_idle(uuid)
        found['reboot'] = act(watch, host, uuid, {'reboot': {'type': 'HARD'}}, 'reboot_instance',
                              'saved active, None')
        cloud.wait_idle(uuid)
        found['attach'] = attach(watch, host, uuid, cloud.port(f'{name}-more', number + 2))
    finally:
        forget(name)
    uuid, boot = cloud.find(guest), cloud.wait_heartbeat(guest)[1]
    found['stop'] = act(watch, host, uuid, {'os-stop': None}, 'stop_instance', 'saved stopped, None')
    cloud.wait_idle(uuid)
    found['start'] = act(watch, host, uuid, {'os-start': None}, 'start_instance', 'saved active, None')
    cloud.until(120, f'{guest} has booted', lambda: (cloud.heartbeat(guest) or (0, boot))[1] != boot)
    return found


def names_of(name):
    return [r['display_name'] for r in cloud.sql(
        'nova', 'select display_name from instances where deleted=0 and display_name like %s', f'{name}-%')]


def ten(watch, kind, networks, n=10):
    """Seconds from the first cast to the last record of n servers that were asked for together."""
    name, asked = f'bench-{kind}-ten', time.time()
    flavors = {f['name']: f['id'] for f in cloud.call('compute', 'GET', '/flavors')['flavors']}
    try:
        cloud.call('compute', 'POST', '/servers', {'server': {
            'name': name, 'imageRef': cloud.image('blank'), 'flavorRef': flavors['lab.tiny'],
            'networks': networks, 'host': ON[kind], 'min_count': n, 'max_count': n}})
        casts = cloud.until(120, f'{n} casts', lambda: (lambda found: found if len(found) == n else None)(
            watch.wire.all('build_and_run_instance', asked)))
        return max(watch.wire.wait('saved active, None', asked, c.about, 300).at
                   for c in casts) - min(c.at for c in casts)
    finally:
        forget(*names_of(name))


def by_hand(domains):
    """The same start, shutdown and hard reboot of a domain by libvirt alone."""
    found = {'start': [], 'stop': [], 'reboot': []}
    with bare.domain('bench-debian') as name:
        domain = domains.connections['host-a'].lookupByName(name)
        for _ in range(times(5, 2)):
            began = time.time()
            domain.create()
            found['start'].append(time.time() - began)
            time.sleep(12)  # it has booted, and hears the power button
            began = time.time()
            domain.destroy()
            domain.create()
            found['reboot'].append(time.time() - began)
            time.sleep(12)
            began = time.time()
            domain.shutdown()
            found['stop'].append(cloud.until(60, 'shut off', lambda: domains.first(
                domain.UUIDString(), VIR_DOMAIN_EVENT_STOPPED, began)) - began)
    return found


def record(found, kind, i, step):
    """One more measurement of each sort, or one more failure."""
    try:
        taken = step()
    except cloud.Failed as e:
        say(f'{i + 1}, {kind}: {e}')
        found[kind]['failed'] += 1
        return
    say(f'{i + 1}, {kind}: ' + ', '.join(f'{w} {t["all"]:.2f} s ({t["own"]:.2f} s)' for w, t in taken.items()))
    for what, value in taken.items():
        found[kind].setdefault(what, []).append(value)


def measured(watch):
    found = {k: {'failed': 0} for k in KINDS}
    flat = cloud.call('network', 'GET', '/networks?name=flat')['networks'][0]['id']
    for kind in KINDS:
        cloud.create(f'bench-{kind}', NUMBERS[kind], ON[kind])
        build(watch, ON[kind], f'bench-{kind}-one', NUMBERS[kind] + 1)  # the image is in the cache from now on
        forget(f'bench-{kind}-one')
    for i in range(times(7, 2)):
        for kind in KINDS:
            record(found, kind, i, lambda: turn(watch, kind))
    for i in range(times(3, 1)):
        for kind in KINDS:
            for what, networks in (('ten', [{'uuid': flat}]), ('ten without ports', 'none')):
                def both_times():
                    took = ten(watch, kind, networks)
                    return {what: {'all': took, 'own': took}}
                record(found, kind, i, both_times)
    found['bare'] = by_hand(watch.domains)
    return found


def life():
    cloud.proxies_up()
    configure(QUIET + cloud.FAULTS['neutron'])
    both()
    try:
        with quotas_off(), measure.Wire() as wire, measure.Domains(HOSTS) as domains:
            return measured(Watch(wire, domains))
    finally:
        forget(*names_of('bench'))
        configure()
