"""A scripted keystone, placement, neutron and glance on loopback, with faults on order."""
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Cloud:
    """State of all services.  faults: list of [method regex, path regex, action, times]."""

    def __init__(self, cert=None):
        self.lock = threading.RLock()
        self.requests = []      # (method, path, headers, body)
        self.connections = 0
        self.faults = []
        self.tokens = {}        # text -> user
        self.n_tokens = 0
        self.lifetime = 3600
        self.token_delay = 0
        self.refuse = False
        self.providers = {}     # uuid -> {name, generation, inventories, traits}
        self.traits = {'COMPUTE_NODE', 'COMPUTE_DEVICE_TAGGING', 'HW_CPU_X86_AVX', 'CUSTOM_OLD'}
        self.classes = {'VCPU', 'MEMORY_MB', 'DISK_GB'}
        self.in_use = set()     # (uuid, class)
        self.consumers = {}     # uuid -> {allocations, project_id, user_id, consumer_generation}
        self.lists = {'ports': [], 'networks': [], 'subnets': [], 'floatingips': [],
                      'security_groups': [],
                      'extensions': [{'alias': 'binding-extended'}, {'alias': 'router'}]}
        self.page = 0           # elements a page, 0: all
        self.bindings = {}      # (port, host) -> status
        self.images = {}        # id -> (metadata, data)
        self.server = Server(('127.0.0.1', 0), Handler)
        self.server.cloud = self
        self.scheme = 'http'
        if cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = 'https'
        self.url = f'{self.scheme}://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fault(self, method, path, action, times=1):
        self.faults.append([method, path, action, times])

    def take_fault(self, method, path):
        with self.lock:
            for f in self.faults:
                if f[3] and re.fullmatch(f[0], method) and re.search(f[1], path):
                    f[3] -= 1
                    return f[2]
        return None

    def made(self, method, path=''):
        """The requests so far, as "METHOD path" without those for tokens."""
        with self.lock:
            return [r for r in self.requests
                    if re.fullmatch(method, r[0]) and re.search(path, r[1])]

    # Each gets (path, query, body) and answers (status, body or None).

    def dispatch(self, method, path, query, headers, body):
        if path == '/v3/auth/tokens':
            return self.auth(body)
        user = self.tokens.get(headers.get('X-Auth-Token'))
        if not user:
            return 401, {'error': {'message': 'The request you have made requires authentication.'}}
        if headers.get('X-Service-Token') and headers['X-Service-Token'] not in self.tokens:
            return 401, {'error': {'message': 'bad service token'}}
        if path.startswith('/placement/'):
            return self.placement(method, path[10:].strip('/').split('/'), query, body)
        if path.startswith('/v2.0/'):
            return self.neutron(method, path[6:].split('/'), query, body)
        if path == '/image/v2/images':
            return self.image_list(query)
        if path.startswith('/image/v2/images/') and path.split('/')[4] in self.images:
            return self.glance(method, path.split('/')[4:], headers, body)
        if path.startswith('/image/v2/'):
            return 200, {'user': user, 'service': headers.get('X-Service-Token') is not None,
                         'request': headers.get('X-OpenStack-Request-ID')}
        return 404, {'message': 'no such path'}

    def auth(self, body):
        time.sleep(self.token_delay)
        user = body['auth']['identity']['password']['user']
        if self.refuse or user['password'] != 'secret':
            return 401, {'error': {'message': 'wrong password'}}
        self.n_tokens += 1
        text = f'token-{self.n_tokens}'
        self.tokens[text] = user['name']
        now = time.time()
        iso = lambda t: time.strftime('%Y-%m-%dT%H:%M:%S.000000Z', time.gmtime(t))

        def service(kind, name, url):
            return {'type': kind, 'name': name, 'endpoints': [
                {'interface': 'public', 'region_id': 'RegionOne', 'url': 'http://127.0.0.1:1/'},
                {'interface': 'internal', 'region_id': 'Other', 'url': 'http://127.0.0.1:1/'},
                {'interface': 'internal', 'region_id': 'RegionOne', 'url': url}]}
        return (201, {'token': {
            # A clock that is a day behind must not matter.
            'issued_at': iso(now - 86400), 'expires_at': iso(now - 86400 + self.lifetime),
            'catalog': [service('placement', 'placement', self.url + '/placement'),
                        service('network', 'neutron', self.url + '/'),
                        service('image', 'glance', self.url + '/image/v2/')]}},
                {'X-Subject-Token': text})

    def image(self, uuid, data, **meta):
        self.images[uuid] = (dict({
            'id': uuid, 'status': 'active', 'disk_format': 'raw', 'size': len(data),
            'os_hash_algo': 'sha512', 'os_hash_value': hashlib.sha512(data).hexdigest(),
            'checksum': hashlib.md5(data).hexdigest()}, **meta), data)

    def image_list(self, query):
        key, marker = query.pop('sort_key')[0], int(query.pop('marker', ['0'])[0])
        down = query.pop('sort_dir') == ['desc']
        found = sorted((m for m, _ in self.images.values()
                        if all(m.get(k) == v[0] for k, v in query.items())),
                       key=lambda m: m[key], reverse=down)
        answer = {'images': found, 'first': '/v2/images'}
        if self.page:
            answer['images'] = found[marker:marker + self.page]
            more = urllib.parse.urlencode(dict(query, sort_key=key, sort_dir='desc',
                                               marker=marker + self.page), doseq=True)
            if marker + self.page < len(found):
                answer['next'] = '/v2/images?' + more
        return 200, answer

    def image_change(self, method, p, headers, body):
        meta, _ = self.images[p[0]]
        if method == 'DELETE':
            if meta.get('protected'):
                return 403, {'message': 'Image is protected'}
            if meta.get('used'):
                return 409, {'message': 'Image is in use'}
            del self.images[p[0]]
            return 204, None
        if method == 'PUT':
            if meta['status'] != 'queued':
                return 409, {'message': f'Image status transition from {meta["status"]} to saving'
                                        ' is not allowed'}
            self.image(p[0], body, **{k: v for k, v in meta.items()
                                      if k not in ('status', 'size', 'checksum',
                                                   'os_hash_algo', 'os_hash_value')})
            return 204, None
        if headers['Content-Type'] != 'application/openstack-images-v2.1-json-patch':
            return 415, None
        for change in body:
            name = change['path'][1:]
            if change['op'] not in ('add', 'replace') or '/' in name:
                return 400, {'message': 'no such operation'}
            if change['op'] == 'replace' and name not in meta:
                return 409, {'message': f'Property {name} does not exist.'}
            meta[name] = change['value']
        return 200, meta

    def glance(self, method, p, headers, body):
        if method != 'GET':
            return self.image_change(method, p, headers, body)
        meta, data = self.images[p[0]]
        if len(p) == 1:
            return 200, meta
        first = headers.get('Range')
        if not first:
            return 200, data, {}, 'application/octet-stream'
        first = int(re.fullmatch(r'bytes=(\d+)-', first)[1])
        if first >= len(data):
            return 416, None
        return (206, data[first:], {'Content-Range': f'bytes {first}-{len(data) - 1}/{len(data)}'},
                'application/octet-stream')

    @staticmethod
    def placement_error(status, detail, code='placement.undefined_code'):
        return status, {'errors': [{'status': status, 'title': 't', 'detail': detail,
                                    'code': code}]}

    def conflict(self, detail='resource provider generation conflict'):
        return self.placement_error(409, detail, 'placement.concurrent_update')

    def placement(self, method, p, query, body):
        if p[0] == 'resource_providers' and method == 'POST':
            if any(x['name'] == body['name'] for x in self.providers.values()):
                return self.placement_error(409, 'Conflicting resource provider name: ' +
                                            body['name'] + ' already exists.')
            self.providers[body['uuid']] = {'name': body['name'], 'generation': 0,
                                            'inventories': {}, 'traits': []}
            return 200, {'uuid': body['uuid'], 'generation': 0}
        if p == ['resource_providers']:
            return 200, {'resource_providers': [
                {'uuid': u} for u, x in self.providers.items()
                if query['in_tree'][0] in (u, x.get('root'))]}
        if p[0] == 'resource_providers':
            rp = self.providers.get(p[1])
            if not rp:
                return self.placement_error(404, f"No resource provider with uuid {p[1]} found")
            return self.provider(method, p[1], rp, p[2] if len(p) > 2 else '', body)
        if p[0] == 'traits' and method == 'GET':
            names = query['name'][0][3:].split(',')
            return 200, {'traits': sorted(self.traits & set(names))}
        if p[0] == 'traits' and method == 'PUT':
            self.traits.add(p[1])
            return 201, None
        if p[0] == 'resource_classes' and method == 'PUT':
            self.classes.add(p[1])
            return 201, None
        if p[0] == 'allocations':
            return self.allocations(method, p, body)
        return self.placement_error(404, 'The resource could not be found.')

    def provider(self, method, uuid, rp, what, body):
        if what == '':
            return 200, {'uuid': uuid, 'name': rp['name'], 'generation': rp['generation']}
        if what == 'usages':
            return 200, {'resource_provider_generation': rp['generation'],
                         'usages': {c: int((uuid, c) in self.in_use) for c in rp['inventories']}}
        if what == 'allocations':
            return 200, {'resource_provider_generation': rp['generation'], 'allocations': {
                c: {'resources': a['allocations'][uuid]['resources']}
                for c, a in self.consumers.items() if uuid in a['allocations']}}
        if method == 'PUT':
            if body['resource_provider_generation'] != rp['generation']:
                return self.conflict()
            if what == 'inventories':
                for c in body[what]:
                    if c not in self.classes:
                        return self.placement_error(400, f'Unknown resource class {c}')
                for c in rp['inventories']:
                    if c not in body[what] and (uuid, c) in self.in_use:
                        return self.placement_error(
                            409, f"Inventory for '{c}' on resource provider '{uuid}' in use.",
                            'placement.inventory.inuse')
            elif set(body[what]) - self.traits:
                return self.placement_error(400, 'No such trait')
            rp[what] = body[what]
            rp['generation'] += 1
        return 200, {'resource_provider_generation': rp['generation'], what: rp[what]}

    def allocations(self, method, p, body):
        empty = {'allocations': {}}
        if method == 'GET':
            return 200, self.consumers.get(p[1], empty)
        changes = {p[1]: body} if method == 'PUT' else body
        for c, a in changes.items():
            if a['consumer_generation'] != self.consumers.get(c, {}).get('consumer_generation'):
                return self.conflict('consumer generation conflict - expected 1 but got 2')
        for c, a in changes.items():
            if a['allocations']:
                self.consumers[c] = dict(a, consumer_generation=(a['consumer_generation'] or 0) + 1)
            else:
                self.consumers.pop(c, None)
        return 204, None

    def neutron(self, method, p, query, body):
        def error(status, message):
            return status, {'NeutronError': {'type': 'X', 'message': message, 'detail': ''}}
        if p[0] == 'ports' and len(p) >= 4 and p[2] == 'bindings':
            key = (p[1], p[3])
            if key not in self.bindings:
                return error(404, f'Binding for port {p[1]} on host {p[3]} could not be found.')
            if method == 'DELETE':
                del self.bindings[key]
                return 204, None
            if method == 'PUT':
                if self.bindings[key] == 'ACTIVE':
                    return error(409, 'already active')
                for k in self.bindings:
                    if k[0] == p[1]:
                        self.bindings[k] = 'ACTIVE' if k == key else 'INACTIVE'
                return 200, {'host': p[3], 'status': 'ACTIVE'}
            return 200, {'binding': {'host': p[3], 'status': self.bindings[key]}}
        if p == ['ports'] and method == 'POST':
            port = dict(body['port'], id=f'port-{len(self.lists["ports"])}')
            self.lists['ports'].append(port)
            return 201, {'port': port}
        if p[0] == 'ports' and method == 'DELETE':
            before = len(self.lists['ports'])
            self.lists['ports'] = [x for x in self.lists['ports'] if x['id'] != p[1]]
            return (204, None) if len(self.lists['ports']) < before else error(404, 'no port')
        if p[0] == 'ports' and len(p) == 2:
            for port in self.lists['ports']:
                if port['id'] == p[1]:
                    if method == 'PUT':
                        port.update(body['port'])
                    return 200, {'port': port}
            return error(404, f'Port {p[1]} could not be found.')
        what = p[0].replace('-', '_')
        if self.lists.get(what) is None:
            return error(404, 'The resource could not be found.')
        marker = int(query.pop('marker', ['0'])[0])
        query.pop('fields', None)
        items = [x for x in self.lists[what]
                 if all(str(x.get(k)) in v for k, v in query.items())]
        answer = {what: items}
        if self.page and marker + self.page < len(items):
            more = urllib.parse.urlencode(dict(query, marker=marker + self.page), doseq=True)
            answer[what + '_links'] = [
                {'rel': 'previous', 'href': 'http://elsewhere/?x=1'},
                {'rel': 'next', 'href': 'http://elsewhere/v2.0/ports?' + more}]
        if self.page:
            answer[what] = items[marker:marker + self.page]
        return 200, answer


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass                    # Clients that hang up are part of the tests.


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def setup(self):
        super().setup()
        self.server.cloud.connections += 1

    def log_message(self, *args):
        pass

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()
        self.close_connection = True

    def send(self, status, body, headers=(), content='application/json', end=None):
        data = b'' if body is None else (
            body if isinstance(body, bytes) else json.dumps(body).encode())
        self.send_response(status)
        for k, v in dict(headers).items():
            self.send_header(k, v)
        if body is not None:
            self.send_header('Content-Type', content)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data[:end])
        if end is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def cut(self, length):
        """Whether the connection breaks while a body is sent."""
        cloud = self.server.cloud
        with cloud.lock:
            for f in cloud.faults:
                if f[2] == 'cut' and f[3] and re.search(f[1], self.path) and length > 0:
                    f[3] -= 1
                    self.rfile.read(length // 2)
                    cloud.requests.append((self.command, self.path, dict(self.headers), None))
                    return True
        return False

    def handle_request(self):
        cloud = self.server.cloud
        url = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get('Content-Length') or 0)
        if self.cut(length):
            return self.reset()
        raw = self.rfile.read(length)
        body = raw
        if self.headers.get('Content-Type') != 'application/octet-stream':
            body = json.loads(raw) if raw else None
        with cloud.lock:
            cloud.requests.append((self.command, self.path, dict(self.headers), body))
        action = cloud.take_fault(self.command, self.path)
        if callable(action):    # Does something first, and may say what to do then.
            action = action()
        if action == 'reset':
            return self.reset()
        if action == 'huge':
            self.send_response(200)
            self.send_header('Content-Type', 'application/json')
            self.end_headers()
            for _ in range(70):
                self.wfile.write(b' ' * (1 << 20))
            self.close_connection = True
            return None
        if action == 'slow':
            time.sleep(3)
        if isinstance(action, tuple):
            return self.send(*action)
        with cloud.lock if url.path != '/v3/auth/tokens' else threading.Lock():
            answer = cloud.dispatch(self.command, url.path, urllib.parse.parse_qs(url.query),
                                    self.headers, body)
        if isinstance(action, int):     # Breaks off after so many bytes of the body.
            return self.send(*answer, end=action)
        if action == 'lost':    # Done, but the answer does not arrive.
            return self.reset()
        return self.send(*answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = handle_request
