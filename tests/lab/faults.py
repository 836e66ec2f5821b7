"""Neutron and glance as the lab's hosts see them, through a proxy that does what a test has planted.

cloud.Fault plants and removes; hosts use the proxy once their nova.conf says so (FAULTS in cloud.py).
Control, on its own port: POST /rules plants one (JSON as in Rule) and answers its number, GET /rules/N
tells how often it struck, DELETE /rules/N removes it and lets what it holds go on.  GET /exchanges/T: the
last requests that were answered after that time, each [service, client, method, path, from, to].
"""
import collections
import http.client
import http.server
import json
import re
import sys
import threading
import time

CONTROL = 19600
PROXIES = {19696: ('neutron', 9696), 19292: ('glance', 9292)}
HOP = {'connection', 'keep-alive', 'transfer-encoding', 'te', 'upgrade', 'host'}
CHUNK = 256 << 10


class Rule:
    """service, method, path (regular expression); times: how often it strikes; client: an address, or
    "first" for whoever is struck first.  do: "answer" (status, instead of asking), "cut" (the
    connection, after so many bytes of the reply), "hold" (until the rule is removed)."""

    def __init__(self, service, method, path, do, times=1, client=None, status=500, after=0):
        self.key = (service, method)
        self.path = re.compile(path)
        self.do, self.left, self.client, self.status, self.after = do, times, client, status, after
        self.hits = 0
        self.removed = threading.Event()

    def strikes(self, service, method, path, client):
        if self.key != (service, method) or self.left <= 0 or not self.path.search(path.split('?')[0]):
            return False
        if self.client == 'first':
            self.client = client
        if self.client not in (None, client):
            return False
        self.left -= 1
        self.hits += 1
        return True


rules, numbers, lock = {}, iter(range(1, 10**9)), threading.Lock()
exchanges = collections.deque(maxlen=20000)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True  # or a body waits for the acknowledgement of its header

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind='application/json'):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Control(Handler):
    def do_POST(self):
        rule = Rule(**json.loads(self.rfile.read(int(self.headers['Content-Length']))))
        with lock:
            number = next(numbers)
            rules[number] = rule
        self.reply(200, json.dumps(number).encode())

    def rule(self):
        return rules[int(self.path.rsplit('/', 1)[1])]

    def do_GET(self):
        what, _, after = self.path[1:].partition('/')
        said = [e for e in list(exchanges) if e[-1] > float(after)] if what == 'exchanges' else self.rule().hits
        self.reply(200, json.dumps(said).encode())

    def do_DELETE(self):
        with lock:
            rule = rules.pop(int(self.path.rsplit('/', 1)[1]))
        rule.removed.set()
        self.reply(200, json.dumps(rule.hits).encode())


class Proxy(Handler):
    def body(self):
        """What comes with the request, piece by piece; None if nothing does."""
        if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
            return self.chunks()
        left = int(self.headers.get('Content-Length') or 0)
        return self.pieces(self.rfile, left) if left else None

    def chunks(self):
        while True:
            size = int(self.rfile.readline().split(b';')[0], 16)
            piece = self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return
            yield piece

    @staticmethod
    def pieces(source, left):
        while left:
            piece = source.read(min(left, CHUNK))
            if not piece:
                return
            left -= len(piece)
            yield piece

    def planted(self):
        with lock:
            return next((r for r in rules.values() if r.strikes(
                self.server.service, self.command, self.path, self.client_address[0])), None)

    def answer(self):
        rule = self.planted()
        body = self.body()
        if rule and rule.do == 'answer':
            for _ in body or ():
                pass
            self.reply(rule.status, b'{"NeutronError": {"type": "Planted", "message": "planted", "detail": ""}}')
            return
        if rule and rule.do == 'hold':
            rule.removed.wait()
        self.forward(body, rule.after if rule and rule.do == 'cut' else None)

    def forward(self, body, cut):
        upstream = http.client.HTTPConnection(self.server.server_address[0], self.server.upstream, timeout=120)
        chunked = 'Transfer-Encoding' in self.headers
        upstream.request(self.command, self.path, body, {k: v for k, v in self.headers.items()
                                                         if k.lower() not in HOP} |
                         ({'Transfer-Encoding': 'chunked'} if chunked else {}), encode_chunked=chunked)
        r = upstream.getresponse()
        self.send_response(r.status)
        size = r.getheader('Content-Length')
        whole = None
        if self.command == 'HEAD' or r.status in (204, 304):
            size = None
        elif size is None:
            whole = r.read()
            self.send_header('Content-Length', str(len(whole)))
        for k, v in r.getheaders():
            if k.lower() not in HOP:
                self.send_header(k, v)
        self.end_headers()
        if whole is not None:
            self.wfile.write(whole)
        elif size is not None:
            for piece in self.pieces(r, int(size) if cut is None else min(cut, int(size))):
                self.wfile.write(piece)
        if cut is not None:
            self.close_connection = True
        upstream.close()

    def run(self):
        began = time.time()
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the daemon that asked is gone: a test killed it
        exchanges.append((self.server.service, self.client_address[0], self.command, self.path, began, time.time()))

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = run


def serve(address, port, handler, **facts):
    server = http.server.ThreadingHTTPServer((address, port), handler)
    server.daemon_threads = True
    for k, v in facts.items():
        setattr(server, k, v)
    threading.Thread(target=server.serve_forever).start()


def main(address):
    for port, (service, upstream) in PROXIES.items():
        serve(address, port, Proxy, service=service, upstream=upstream)
    serve(address, CONTROL, Control)


if __name__ == '__main__':
    main(sys.argv[1])
