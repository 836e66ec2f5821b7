"""The lab's cloud as Python functions: its REST APIs, its database, its hosts.

Speaks HTTP itself and keeps its token in a file: an operation takes milliseconds where the
openstack client needs two seconds.  Used by ops.py, suite and tests/demo.
"""
import json
import os
import re
import subprocess
import sys
import time

import pymysql
import requests

VAR = os.environ.get('LAB_VAR', '/var/lib/novashim-lab')
RUN = os.environ.get('LAB_RUN', '/run/novashim-lab')
LOG = os.environ.get('LAB_LOG', '/var/log/novashim-lab')
CTL = '10.99.0.1'
A, B = 'host-a', 'host-b'
PASSWORD = 'labpass'
INSTANCES = 'var/lib/nova/instances'
MICROVERSION = '2.90'
FINAL = ('completed', 'error', 'failed', 'cancelled')
URLS = {'compute': f'http://{CTL}:8774/v2.1', 'network': f'http://{CTL}:9696/v2.0',
        'placement': f'http://{CTL}:8778', 'image': f'http://{CTL}:9292/v2'}

OS_ENV = {'OS_AUTH_URL': f'http://{CTL}:5000/v3', 'OS_USERNAME': 'admin', 'OS_PASSWORD': PASSWORD,
          'OS_PROJECT_NAME': 'admin', 'OS_USER_DOMAIN_NAME': 'Default',
          'OS_PROJECT_DOMAIN_NAME': 'Default', 'OS_IDENTITY_API_VERSION': '3',
          'OS_REGION_NAME': 'RegionOne', 'PYTHONWARNINGS': 'ignore', 'NO_PROXY': '*',
          'no_proxy': '*'}

http = requests.Session()
http.trust_env = False


class Failed(Exception):
    """What the caller asked for did not happen; the text says what did."""


def deadline(limit):
    """When that many seconds will be over; later where others keep the machine busy."""
    return time.time() + limit * max(1, os.getloadavg()[0] / os.cpu_count() / 2)


# --- REST

def _token(renew=False):
    path = f'{RUN}/token'
    if not renew:
        try:
            with open(path) as f:
                return f.read()
        except FileNotFoundError:
            pass
    domain = {'name': 'Default'}
    r = http.post(f'http://{CTL}:5000/v3/auth/tokens', json={'auth': {
        'identity': {'methods': ['password'], 'password': {'user': {
            'name': 'admin', 'domain': domain, 'password': PASSWORD}}},
        'scope': {'project': {'name': 'admin', 'domain': domain}}}}, timeout=60)
    if r.status_code != 201:
        raise Failed(f'keystone: HTTP {r.status_code} {r.text}')
    with open(path, 'w') as f:
        os.chmod(path, 0o600)
        f.write(r.headers['X-Subject-Token'])
    return r.headers['X-Subject-Token']


def request(service, method, path, body=None, microversion=None, url=None):
    """One REST call; returns the response whatever its status.  url: another than the service's own."""
    versions = {'compute': f'compute {microversion or MICROVERSION}',
                'placement': f'placement {microversion or "1.39"}'}
    for renew in (False, True):
        headers = {'X-Auth-Token': _token(renew), 'Accept': 'application/json'}
        if service in versions:
            headers['OpenStack-API-Version'] = versions[service]
        r = http.request(method, (url or URLS[service]) + path, json=body, headers=headers, timeout=120)
        if r.status_code != 401:
            break
    return r


def call(service, method, path, body=None, **kw):
    """One REST call that must succeed; returns the decoded body."""
    r = request(service, method, path, body, **kw)
    if r.status_code >= 300:
        raise Failed(f'{method} {path}: HTTP {r.status_code} {r.text.strip()}')
    return r.json() if r.content else None


# --- database and hosts

def sql(database, query, *args):
    """Rows as dictionaries."""
    db = pymysql.connect(host='127.0.0.1', user='lab', password=PASSWORD, database=database,
                         autocommit=True, cursorclass=pymysql.cursors.DictCursor)
    try:
        with db.cursor() as cursor:
            cursor.execute(query, args)
            return cursor.fetchall()
    finally:
        db.close()


def pid_of(name):
    """The pid of a daemon or a host's namespaces (HOST/ns), None if it does not run."""
    try:
        with open(f'{RUN}/{name}.pid') as f:
            pid, started = f.read().split()
        with open(f'/proc/{pid}/stat') as f:
            fields = f.read().rsplit(') ', 1)[1].split()
    except (OSError, ValueError, IndexError):
        return None
    return int(pid) if fields[19] == started and fields[0] != 'Z' else None


def hosts():
    return [h for h in (f'host-{c}' for c in 'abcdefghi') if pid_of(f'{h}/ns')]


def root(host):
    """The host's file system as seen from here."""
    pid = pid_of(f'{host}/ns')
    if not pid:
        raise Failed(f'{host} is not up')
    return f'/proc/{pid}/root'


def in_host(host, *cmd, check=True, timeout=60):
    """Runs a command in a simulated host; returns its output."""
    pid = pid_of(f'{host}/ns')
    if not pid:
        raise Failed(f'{host} is not up')
    r = subprocess.run(['nsenter', '-t', str(pid), '-n', '-m', '-u', '--', *cmd],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if check and r.returncode:
        raise Failed(f'{host}: {" ".join(cmd)}: {r.stderr.strip() or r.stdout.strip()}')
    return r.stdout


def virsh(host, *cmd, **kw):
    return in_host(host, 'virsh', '-q', '-c', 'qemu:///system', *cmd, **kw)


def ovs_interfaces(host):
    """OVS interfaces that carry a neutron port: name, type, iface-id, VM, tag."""
    if not pid_of(f'{host}/ovsdb'):
        return []

    def table(name, columns):
        t = json.loads(in_host(host, 'ovs-vsctl', '--format=json', f'--columns={columns}',
                               'list', name))
        return [dict(zip(t['headings'], row)) for row in t['data']]
    tags = {p['name']: p['tag'] for p in table('Port', 'name,tag')}
    found = []
    for i in table('Interface', 'name,type,external_ids,options,ofport'):
        ids = dict(i['external_ids'][1])
        if 'iface-id' in ids or i['name'][:3] in ('vhu', 'tap', 'qvo'):
            tag = tags.get(i['name'])
            found.append({'name': i['name'], 'type': i['type'] or 'system',
                          'port': ids.get('iface-id'), 'vm': ids.get('vm-uuid'),
                          'mac': ids.get('attached-mac'),
                          'tag': tag if isinstance(tag, int) else None,
                          'socket': dict(i['options'][1]).get('vhost-server-path')})
    return sorted(found, key=lambda i: i['name'])


# --- faults (faults.py does them)

FAULTS = {'neutron': f'[neutron]\nendpoint_override = http://{CTL}:19696\n',  # in a host's nova.conf
          'glance': f'[glance]\napi_servers = http://{CTL}:19292\n'}


def proxies_up():
    """The proxies that FAULTS names, with nothing planted."""
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(['bash', '-c', f'. {here}/lib.sh; start faults /usr/bin/python3 {here}/faults.py {CTL}; '
                    f'until_ok 10 faults bash -c "exec 3<>/dev/tcp/{CTL}/19600"'], check=True)


def address(host):
    return f'10.99.0.{11 + ord(host[-1]) - ord("a")}'


def exchanges(service, host, after):
    """(from, to) of what a host asked a service through the proxy, and was answered after that time."""
    found = http.get(f'http://{CTL}:19600/exchanges/{after}', timeout=10).json()
    return [(began, ended) for s, client, _, _, began, ended in found if (s, client) == (service, address(host))]


class Fault:
    """A fault in what the hosts hear from neutron or glance, as long as the `with` lasts: see Rule in
    faults.py.  It hits at most `times` times."""
    CONTROL = f'http://{CTL}:19600/rules'

    def __init__(self, service, method, path, do='answer', host=None, **more):
        if host:
            more['client'] = address(host)
        self.rule = {'service': service, 'method': method, 'path': path, 'do': do, **more}

    def __enter__(self):
        proxies_up()
        self.url = f'{self.CONTROL}/{http.post(self.CONTROL, json=self.rule, timeout=10).json()}'
        return self

    def __exit__(self, *_):
        self.release()

    def hits(self):
        return http.get(self.url, timeout=10).json()

    def release(self):
        """What a "hold" holds goes on; nothing is hit any more."""
        if self.url:
            http.delete(self.url, timeout=10)
            self.url = None

    def wait(self, limit=60):
        until(limit, f'{self.rule["method"]} {self.rule["path"]}', self.hits)


# --- servers

def find(name):
    """The server's id from its name or id."""
    rows = sql('nova', 'select uuid from instances where deleted=0 and '
               '(display_name=%s or uuid=%s)', name, name)
    if rows:
        return rows[0]['uuid']
    for s in call('compute', 'GET', f'/servers?name=^{name}$')['servers']:  # not scheduled yet
        return s['id']
    raise Failed(f'no server {name}')


def show(name):
    s = call('compute', 'GET', f'/servers/{find(name)}')['server']
    return {'id': s['id'], 'name': s['name'], 'status': s['status'],
            'task': s['OS-EXT-STS:task_state'], 'host': s['OS-EXT-SRV-ATTR:host'],
            'fault': s.get('fault', {}).get('message')}


def wait(name, want, limit=120):
    end = deadline(limit)
    while True:
        s = show(name)
        if s['status'] == want and s['task'] is None:
            return s
        if s['status'] == 'ERROR' != want:
            raise Failed(f'{name}: ERROR: {s["fault"]}')
        if time.time() > end:
            raise Failed(f'{name}: {s["status"]}/{s["task"]} after {limit} s, wanted {want}')
        time.sleep(.2)


def wait_idle(name, limit=60):
    """Until the server has no task; returns it, whatever its status."""
    end = deadline(limit)
    while True:
        s = show(name)
        if s['task'] is None:
            return s
        if time.time() > end:
            raise Failed(f'{name}: task {s["task"]} still there after {limit} s')
        time.sleep(.2)


def port(name, number, vnic='normal', network='flat'):
    """A port whose MAC, and on `flat` whose address 10.98.0.NUMBER, a guest gives itself.  vnic `tap`
    is a normal port that is no vhost-user one even where OVS has DPDK."""
    net = call('network', 'GET', f'/networks?name={network}')['networks'][0]['id']
    body = {'network_id': net, 'name': f'{name}-tap' if vnic == 'tap' else name,
            'mac_address': f'fa:16:3e:00:00:{int(number):02x}',
            'binding:vnic_type': 'normal' if vnic == 'tap' else vnic}
    if network == 'flat':
        body['fixed_ips'] = [{'ip_address': f'10.98.0.{number}'}]
    return call('network', 'POST', '/ports', {'port': body})['port']['id']


def image(name):
    """The newest image of that name."""
    return call('image', 'GET', f'/images?name={name}&sort=created_at:desc')['images'][0]['id']


def create(name, number, host=None, image_name='guest', flavor='lab.small', vnic='normal',
           network='flat', limit=120, want='ACTIVE', ports=(), microversion=None, **more):
    """A server with one port (see port()), or with `ports`; more: further keys of the request."""
    flavors = {f['name']: f['id'] for f in call('compute', 'GET', '/flavors')['flavors']}
    body = {'name': name, 'imageRef': image(image_name), 'flavorRef': flavors[flavor],
            'networks': [p if isinstance(p, dict) else {'port': p}
                         for p in ports or [port(name, number, vnic, network)]], **more}
    if host and microversion:  # an old one
        body['availability_zone'] = f'nova:{host}'
    elif host:
        body['host'] = host
    made = call('compute', 'POST', '/servers', {'server': body}, microversion=microversion)['server']
    s = wait(name, want, limit) if want else {'id': made['id']}
    return {**s, 'password': made.get('adminPass')}


def delete(name, limit=90):
    """The server and the ports made with it; fine if there is none."""
    try:
        uuid = find(name)
    except Failed:
        uuid = None
    if uuid:
        request('compute', 'DELETE', f'/servers/{uuid}')
        end = deadline(limit)
        while request('compute', 'GET', f'/servers/{uuid}').status_code != 404:
            if time.time() > end:
                raise Failed(f'{name}: not gone {limit} s after its deletion')
            time.sleep(.2)
    for port in call('network', 'GET', '/ports')['ports']:
        if port['name'] == name or port['name'].startswith(f'{name}-'):
            request('network', 'DELETE', f'/ports/{port["id"]}')


def action(name, body, **kw):
    call('compute', 'POST', f'/servers/{find(name)}/action', body, **kw)


def console(name, lines=20):
    """The end of the console, read on whichever host has it: no API needed."""
    uuid = find(name)
    host = show(uuid)['host']
    try:
        with open(f'{root(host)}/{INSTANCES}/{uuid}/console.log', errors='replace') as f:
            return ''.join(f.readlines()[-lines:])
    except OSError:
        return ''


def heartbeat(name):
    """(counter, boot id) the guest printed last, None before the first."""
    for line in reversed(console(name, 50).splitlines()):
        words = line.split()
        if len(words) >= 6 and words[0] == 'heartbeat':
            return int(words[1]), words[3]
    return None


def wait_heartbeat(name, after=0, limit=90):
    end = deadline(limit)
    while True:
        beat = heartbeat(name)
        if beat and beat[0] > after:
            return beat
        if time.time() > end:
            raise Failed(f'{name}: no heartbeat within {limit} s; last {beat}')
        time.sleep(.3)


def console_lines(name):
    """What the guest printed since its domain was defined."""
    return [line.rstrip('\r\n') for line in console(name, 10000).splitlines()]


def wait_line(name, pattern, limit=60, after=0):
    """The match of the first line of the console, of those after the first `after`, that has it."""
    def found():
        return next((m for m in (re.search(pattern, x) for x in console_lines(name)[after:]) if m), None)
    try:
        return until(limit, pattern, found)
    except Failed:
        raise Failed(f'{name}: no "{pattern}" on the console within {limit} s; it ends with '
                     f'{console_lines(name)[-3:]}')


def pings(number):
    """10.98.0.NUMBER answers."""
    return subprocess.run(['ping', '-c', '1', '-W', '1', f'10.98.0.{number}'], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL).returncode == 0


# --- migrations

def migrations(name):
    return sql('nova', 'select id, uuid, status, source_compute, dest_compute, created_at, '
               'updated_at, memory_total, memory_processed, memory_remaining, disk_total, '
               'disk_processed, disk_remaining from migrations where deleted=0 and '
               'instance_uuid=%s order by id', find(name))


def migrate(name, host=None, block='auto', **kw):
    """Starts a live migration; returns the number of the last one before it."""
    before = max((m['id'] for m in migrations(name)), default=0)
    action(name, {'os-migrateLive': {'host': host, 'block_migration': block}}, **kw)
    return before


def wait_migration(name, before, statuses, limit=120):
    """Until the migration after `before` has one of the statuses (or has ended)."""
    end = deadline(limit)
    while True:
        m = next((m for m in migrations(name) if m['id'] > before), None)
        if m and m['status'] in statuses:
            return m
        if (m and m['status'] in FINAL) or time.time() > end:
            raise Failed(f'{name}: migration {m and m["status"]}, wanted {"/".join(statuses)}'
                         f'{"" if m and m["status"] in FINAL else f" within {limit} s"}')
        time.sleep(.1)


def ended(name, before, limit=180):
    """Until the migration after `before` has ended and the server has no task."""
    m = wait_migration(name, before, FINAL, limit)
    s = wait_idle(name, 60)
    m = next(x for x in migrations(name) if x['id'] == m['id'])
    return m, s


def running(name, limit=30):
    return wait_migration(name, max((m['id'] for m in migrations(name) if m['status'] in FINAL),
                                    default=0), ('running',), limit)


def abort(name):
    return request('compute', 'DELETE', f'/servers/{find(name)}/migrations/{running(name)["id"]}')


def force_complete(name):
    return request('compute', 'POST',
                   f'/servers/{find(name)}/migrations/{running(name)["id"]}/action',
                   {'force_complete': None})


# --- what a server owns

def events(name):
    """Action events: action, event, result, host, and the text of errors."""
    uuid = name if len(name) == 36 else find(name)
    found = []
    path = f'/servers/{uuid}/os-instance-actions'
    for a in reversed(call('compute', 'GET', path)['instanceActions']):
        one = call('compute', 'GET', f'{path}/{a["request_id"]}')['instanceAction']
        for e in sorted(one['events'], key=lambda e: e['start_time']):
            found.append({'action': a['action'], 'event': e['event'], 'result': e['result'],
                          'host': e.get('host'), 'message': one['message'],
                          'details': e.get('details') or
                          (e.get('traceback') or '').strip().split('\n')[-1] or None})
        if not one['events']:
            found.append({'action': a['action'], 'event': None, 'result': None, 'host': None,
                          'message': one['message'], 'details': None})
    return found


def ports(name):
    """The server's OVS ports, on every host."""
    uuid = find(name)
    return [{'host': h, **i} for h in hosts() for i in ovs_interfaces(h) if i['vm'] == uuid]


def bindings(name):
    """The server's port bindings: one a port and host."""
    found = []
    for p in call('network', 'GET', f'/ports?device_id={find(name)}')['ports']:
        for b in call('network', 'GET', f'/ports/{p["id"]}/bindings')['bindings']:
            found.append({'port': p['id'], 'host': b['host'], 'status': b['status'],
                          'vif_type': b['vif_type'], 'profile': b['profile'],
                          'port_status': p['status']})
    return found


def allocations(name):
    """Placement allocations of the server and of its migrations: one a consumer and host."""
    uuid = find(name)
    found = []
    consumers = [('server', uuid)] + [('migration', m['uuid']) for m in migrations(uuid)]
    providers = {p['uuid']: p['name'] for p in
                 call('placement', 'GET', '/resource_providers')['resource_providers']}
    for kind, consumer in consumers:
        for rp, a in call('placement', 'GET', f'/allocations/{consumer}')['allocations'].items():
            found.append({'consumer': kind, 'id': consumer, 'host': providers.get(rp, rp),
                          'resources': a['resources']})
    return found


def services():
    return [{'host': s['host'], 'binary': s['binary'], 'state': s['state'],
             'status': s['status']} for s in
            call('compute', 'GET', '/os-services')['services']]


def hypervisor(host):
    """What the cloud knows about a host's capacity: hypervisor record, inventory, traits."""
    h = next(h for h in call('compute', 'GET', '/os-hypervisors/detail')['hypervisors']
             if h['hypervisor_hostname'] == host)
    row = sql('nova', 'select * from compute_nodes where deleted=0 and host=%s', host)[0]
    for k in ('created_at', 'updated_at', 'deleted_at', 'id', 'last_seen_up'):
        row.pop(k, None)
    rp = call('placement', 'GET', f'/resource_providers?name={host}')['resource_providers'][0]
    p = f'/resource_providers/{rp["uuid"]}'
    return {'hypervisor': {k: h.get(k) for k in ('hypervisor_type', 'hypervisor_version',
                                                 'host_ip', 'state', 'status')},
            'node': json.loads(json.dumps(row, default=str)),
            'provider': rp['uuid'],
            'inventory': call('placement', 'GET', p + '/inventories')['inventories'],
            'traits': sorted(call('placement', 'GET', p + '/traits')['traits'])}


def leftovers(host):
    """Everything on a host, or in the cloud's records about it, that belongs to no server
    living there: one line each, none when the host is clean."""
    servers = {r['uuid']: r for r in
               sql('nova', 'select uuid, display_name, host, task_state, vm_state from instances '
                   'where deleted=0')}
    here = {u for u, r in servers.items() if r['host'] == host}
    found = []

    def note(kind, what, server=None):
        owner = servers.get(server)
        found.append(f'{kind}: {what}' + (
            f' (server {owner["display_name"]} on {owner["host"]})' if owner else
            f' (server {server}, gone)' if server else ''))

    if pid_of(f'{host}/ns'):
        if pid_of(f'{host}/libvirtd'):
            for u in virsh(host, 'list', '--all', '--uuid').split():
                if u not in here:
                    note('domain', virsh(host, 'domname', u, check=False).strip(), u)
        for i in ovs_interfaces(host):
            if i['vm'] not in here:
                note('ovs port', f'{i["name"]} iface-id {i["port"]}', i['vm'])
        top = f'{root(host)}/{INSTANCES}'
        with open(f'{root(host)}/proc/{pid_of(f"{host}/ns")}/mounts') as f:
            shared = f' /{INSTANCES} fuse' in f.read()
        for d in sorted(os.listdir(top)):
            if d in ('_base', 'snapshots'):
                for f in os.listdir(f'{top}/{d}'):
                    if d == 'snapshots' or f.endswith('.part'):
                        note('temporary file', f'{d}/{f}')
            if d in ('_base', 'snapshots', 'locks', 'compute_nodes', 'lost+found'):
                continue
            if d not in (servers if shared else here):
                note('instance path', d, d[:36] if len(d) >= 36 else None)
        names = {i['name'] for i in ovs_interfaces(host)}
        for s in sorted(os.listdir(f'{root(host)}/run/vhost')):
            if s not in names:
                note('vhost-user socket', s)
        for d in in_host(host, 'ls', '/sys/class/net').split():
            if d[:3] in ('tap', 'qbr', 'qvo', 'qvb') and d not in names:
                note('netdev', d)

    rp = call('placement', 'GET', f'/resource_providers?name={host}')['resource_providers']
    if rp:
        for consumer in call('placement', 'GET', f'/resource_providers/{rp[0]["uuid"]}'
                             '/allocations')['allocations']:
            if consumer not in here:
                m = sql('nova', 'select id, status, instance_uuid from migrations where uuid=%s',
                        consumer)
                note('allocation', f'of migration {m[0]["id"]} ({m[0]["status"]})' if m else
                     f'of consumer {consumer}', m[0]['instance_uuid'] if m else consumer)
    for b in sql('neutron', 'select b.port_id, b.status, b.vif_type, p.device_id from '
                 'ml2_port_bindings b join ports p on p.id=b.port_id where b.host=%s', host):
        if b['device_id'] not in here:
            note('port binding', f'{b["port_id"]} {b["status"]} {b["vif_type"]}', b['device_id'])
    for b in sql('neutron', 'select b.port_id, b.host, p.device_id from ml2_port_bindings b join '
                 'ports p on p.id=b.port_id where b.profile like %s',
                 f'%"migrating_to": "{host}"%'):
        note('port profile', f'{b["port_id"]} migrating_to', b['device_id'])
    for x in sql('nova', 'select e.instance_uuid from instance_extra e join instances i on '
                 'i.uuid=e.instance_uuid where i.deleted=0 and e.migration_context is not null '
                 'and exists (select 1 from migrations m where m.instance_uuid=i.uuid and '
                 'm.migration_type="live-migration" and %s in (m.source_compute, m.dest_compute))',
                 host):
        note('migration context', 'in the database', x['instance_uuid'])
    for x in sql('nova', 'select p.address, p.status, p.instance_uuid from pci_devices p join '
                 'compute_nodes n on n.id=p.compute_node_id where p.deleted=0 and n.host=%s and '
                 'p.status in ("claimed", "allocated")', host):
        if x['instance_uuid'] not in here or x['status'] == 'claimed':
            note('pci device', f'{x["address"]} {x["status"]}', x['instance_uuid'])
    for m in sql('nova', 'select id, status, instance_uuid from migrations where deleted=0 and '
                 'migration_type="live-migration" and %s in (source_compute, dest_compute) and '
                 f'status not in {FINAL}', host):
        note('migration', f'{m["id"]} {m["status"]}', m['instance_uuid'])
    for u in here:
        if servers[u]['task_state']:
            note('task', servers[u]['task_state'], u)
    return found


DOMAIN_STATES = {  # what libvirt says of a server in that state, and the power state Nova records
    'active': ('running', 1), 'rescued': ('running', 1), 'paused': ('paused', 3),
    'stopped': ('shut off', 4), 'suspended': ('shut off', 4), 'soft-delete': ('shut off', 4)}


def disagreements(host):
    """Where the records of the servers that live on a host, what neutron and placement hold about them,
    and what is really there do not agree: one line each."""
    found = []
    rows = sql('nova', 'select i.uuid, i.display_name as name, i.vm_state, i.power_state, i.memory_mb, i.vcpus, '
               'i.root_gb, i.ephemeral_gb, c.network_info from instances i join instance_info_caches c on '
               'c.instance_uuid=i.uuid where i.deleted=0 and i.host=%s', host)
    domains = set(virsh(host, 'list', '--all', '--uuid').split()) if rows else ()
    plugged = ovs_interfaces(host) if rows else ()
    for r in rows:
        def differs(what, is_, should):
            if is_ != should:
                found.append(f'{r["name"]} ({r["vm_state"]}): {what} {is_}, not {should}')
        ports = {p['id']: p for p in call('network', 'GET', f'/ports?device_id={r["uuid"]}')['ports']}
        differs('ports in the info cache', sorted(v['id'] for v in json.loads(r['network_info'] or '[]')),
                sorted(ports))
        held = call('placement', 'GET', f'/allocations/{r["uuid"]}')['allocations']
        differs('allocations on', len(held), 1)
        for a in held.values():
            differs('allocated', {c: a['resources'].get(c) for c in ('VCPU', 'MEMORY_MB')},
                    {'VCPU': r['vcpus'], 'MEMORY_MB': r['memory_mb']})
        if r['vm_state'] not in DOMAIN_STATES:
            if r['vm_state'] != 'error':
                found.append(f'{r["name"]}: state {r["vm_state"]}')
            continue
        state, power = DOMAIN_STATES[r['vm_state']]
        differs('domain', virsh(host, 'domstate', r['uuid']).strip() if r['uuid'] in domains else 'none', state)
        differs('power state', r['power_state'], power)
        differs('has a disk', os.path.exists(f'{root(host)}/{INSTANCES}/{r["uuid"]}/disk'), True)
        for p in ports.values():
            differs(f'port {p["id"]} bound to', p['binding:host_id'], host)
        if state == 'shut off':
            continue
        differs('OVS ports', sorted(i['port'] for i in plugged if i['vm'] == r['uuid']), sorted(ports))
        macs = re.findall("<mac address='([^']*)'", virsh(host, 'dumpxml', r['uuid']))
        differs('NICs', sorted(macs), sorted(p['mac_address'] for p in ports.values()))
    if pid_of(f'{host}/compute'):
        used = sql('nova', 'select vcpus_used, memory_mb_used from compute_nodes where deleted=0 and host=%s', host)[0]
        should = {'vcpus_used': sum(r['vcpus'] for r in rows), 'memory_mb_used': sum(r['memory_mb'] for r in rows)}
        if used != should:
            found.append(f'{host}: usage {used}, not {should}')
    return found


def homeless():
    """What belongs to servers that live on no host, or to none: one line each."""
    found = []
    servers = {r['uuid']: r for r in sql('nova', 'select uuid, display_name as name, host, vm_state, task_state '
                                         'from instances where deleted=0')}
    for u, r in servers.items():
        if r['host'] is None and r['vm_state'] != 'building':
            if call('placement', 'GET', f'/allocations/{u}')['allocations']:
                found.append(f'{r["name"]} ({r["vm_state"]}): an allocation, but no host')
            if r['task_state']:
                found.append(f'{r["name"]} ({r["vm_state"]}): task {r["task_state"]}, but no host')
    failed = {s['id'] for s in call('compute', 'GET', '/servers?all_tenants=1')['servers']}
    for p in call('network', 'GET', '/ports')['ports']:
        if p['device_owner'].startswith('compute:') and p['device_id'] not in servers.keys() | failed:
            found.append(f'port {p["id"]} of {p["device_id"]}, gone')
    for i in call('image', 'GET', '/images?limit=1000')['images']:
        if i['status'] in ('queued', 'saving', 'importing'):
            found.append(f'image {i["name"]}: {i["status"]}')
    return found


def consistent(*on, limit=20, known=()):
    """Until nothing is left over and everything agrees; Failed with what does not.  known: what lines
    may begin with."""
    wrong = []

    def agree():
        wrong[:] = [f'{h}: {x}' for h in on for x in leftovers(h) if not x.startswith(known)] + \
            [x for h in on for x in disagreements(h)] + homeless()
        return not wrong
    try:
        until(limit, 'consistent', agree)
    except Failed:
        raise Failed('inconsistent: ' + '; '.join(wrong))


def script(name, *args, env=None, check=True, timeout=300):
    """Runs one of the lab's scripts."""
    r = subprocess.run([os.path.join(os.path.dirname(os.path.abspath(__file__)), name), *args],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                       env={**os.environ, **(env or {})})
    if check and r.returncode:
        raise Failed(f'{name} {" ".join(args)}: {r.stdout[-300:]}{r.stderr[-600:]}'.strip())
    return r.stdout


def until(limit, what, test):
    """Polls until test() is true; its last value."""
    end = deadline(limit)
    while True:
        value = test()
        if value:
            return value
        if time.time() > end:
            raise Failed(f'{what}: not within {limit} s')
        time.sleep(.2)


if __name__ == '__main__':
    sys.exit('cloud.py is a module; see ops.py')
